"""A world with known truth: questions whose text reveals their family and level, models with known success rates.

Tests of replay, fitting and evaluation hold their estimates against `World.p_correct`, which no real log can offer.
Knows nothing of how samples are used.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from rheostat.data.schema import Sample


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of question. Rates are for level 1; every level above takes `slope` off their logits.

    Attributes:
        wording: text with `{a}` and `{b}` for the numbers asked about; longer numbers mean higher levels.
        direct: chance of a right answer without a chain of thought.
        cot: chance of a right answer with one.
        rival: share of the wrong answers that agree on one value (what defeats a vote).
    """

    name: str
    wording: str
    direct: float
    cot: float
    rival: float = 0.3
    slope: float = 0.8


FAMILIES = (
    Family("lookup", "Which is larger, {a} or {b}?", direct=0.97, cot=0.97, slope=0.1),
    Family("adding", "What is {a} + {b}?", direct=0.35, cot=0.95, slope=0.7),
    Family("remainder", "Find the remainder of {a} divided by {b}.", direct=0.15, cot=0.8),
    Family("riddle", "A farmer has {a} sheep and sells all but {b}. How many are left?", direct=0.1, cot=0.45, rival=0.9, slope=0.3),
    Family("product", "Multiply {a} by {b}.", direct=0.05, cot=0.6, slope=1.0),
    Family("hopeless", "Guess the hidden number between {a} and {b}.", direct=0.02, cot=0.03, slope=0.0),
)


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """A model: `skill` is added to every logit, `tokens` is the mean length of its chain at level 1."""

    name: str
    skill: float
    tokens: int


MODELS = (SimulatedModel("small", 0.0, 40), SimulatedModel("large", 1.2, 50))


@dataclass(frozen=True, slots=True)
class Question:
    """One simulated question; `luck` is its own offset in logits, which its text does not reveal."""

    query_id: str
    family: Family
    level: int
    text: str
    luck: float


class World:
    """Questions and sampled answers, all functions of the seed."""

    def __init__(self, seed: int = 0, *, models: tuple[SimulatedModel, ...] = MODELS, unparsed: float = 0.03) -> None:
        self.models = models
        self.unparsed = unparsed
        self.seed = seed

    def questions(self, n: int) -> list[Question]:
        """`n` questions, families and levels 1-4 drawn evenly."""
        rng = random.Random(f"questions-{self.seed}")
        return [self._question(index, rng) for index in range(n)]

    @staticmethod
    def _question(index: int, rng: random.Random) -> Question:
        family, level = rng.choice(FAMILIES), rng.randint(1, 4)
        a, b = (rng.randrange(10 ** (level - 1), 10**level) for _ in "ab")
        return Question(f"{family.name}-{index}", family, level, family.wording.format(a=a, b=b), rng.gauss(0, 0.5))

    def p_correct(self, question: Question, model: SimulatedModel, strategy: str) -> float:
        """The chance that one sample of `strategy` (`direct` or `cot`) is right."""
        base = question.family.direct if strategy == "direct" else question.family.cot
        logit = math.log(base / (1 - base)) + model.skill + question.luck - question.family.slope * (question.level - 1)
        return (1 - self.unparsed) / (1 + math.exp(-logit))

    def samples(self, n: int, *, direct: int = 8, cot: int = 32) -> Iterator[Sample]:
        """Rows of a log with `direct` and `cot` samples of every model on each of `n` questions."""
        for question in self.questions(n):
            for model in self.models:
                for strategy, count in (("direct", direct), ("cot", cot)):
                    yield from self._draw(question, model, strategy, count)

    def _draw(self, question: Question, model: SimulatedModel, strategy: str, count: int) -> Iterator[Sample]:
        rng = random.Random(f"{self.seed}-{question.query_id}-{model.name}-{strategy}")
        p = self.p_correct(question, model, strategy)
        for index in range(count):
            answer = self._answer(p, question.family.rival, rng)
            # The log-probability is informative but noisy, as in real logs.
            confidence = (0.3 if answer == "right" else 0.0) + rng.gauss(-0.6, 0.3)
            tokens = 4 if strategy == "direct" else round(model.tokens * question.level * rng.uniform(0.7, 1.3))
            yield Sample(
                dataset=question.family.name,
                query_id=question.query_id,
                query_text=question.text,
                model=model.name,
                strategy=strategy,
                sample_index=index,
                temperature=0.8,
                answer=answer,
                gold="right",
                correct=float(answer == "right"),
                prompt_tokens=len(question.text) // 4,
                completion_tokens=tokens,
                latency_s=tokens / 1000,
                level=question.level,
                mean_logprob=confidence,
                source="simulated",
            )

    def _answer(self, p: float, rival: float, rng: random.Random) -> str | None:
        draw = rng.random()
        if draw < p:
            return "right"
        if draw > 1 - self.unparsed:
            return None
        return "rival" if rng.random() < rival else f"wrong {rng.randrange(20)}"

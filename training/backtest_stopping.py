"""Stop rules compared on a multi-sample log: accuracy at mean samples, for the published rules and the learned ones.

Questions are split, so the learned rule, its prior and what scores answers never saw what they are judged on. The prior
of a question comes from its text where the log has it, else from its group's other questions. Where the learned rule does
not keep up with the published one on questions set aside, it is the published one. Intervals resample questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.router.base import Encoder
from rheostat.router.frontier import upper_hull
from rheostat.training.answer_scores import answer_scores
from rheostat.training.bootstrap import Bootstrap, interval_of
from rheostat.training.expected_rewards import expected_rewards
from rheostat.training.fit import Progress, quiet
from rheostat.training.outcomes import Array
from rheostat.training.sampled_items import Items
from rheostat.training.split import positions
from rheostat.training.stop_curves import RULES, Stopped, Stops, fixed, stopped
from rheostat.training.stopping import LEADS, CheckedFit, StopFit, Watched, lead_stops, learned_stops, spent
from rheostat.training.stopping_prior import question_priors
from rheostat.training.trajectories import Trajectories

TRAIN_SHARE = 0.6
MIN_QUESTIONS = 20
ROUNDS = 8
MAX_RUNS = 40_000
PRICES = tuple(float(price) for price in np.geomspace(0.0005, 0.1, 18))
REFERENCE = 8


class StopPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A rule at one setting: mean samples a query, accuracy with its 95% interval."""

    setting: str
    samples: float
    accuracy: float
    low: float
    high: float


class StopCurve(msgspec.Struct, frozen=True, kw_only=True):
    """A rule at all settings; `samples_at_reference` is what it needs, mixing settings, for the reference's accuracy.

    None where it never gets there.
    """

    points: list[StopPoint]
    samples_at_reference: float | None


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules are measured against."""

    rule: str
    samples: float
    accuracy: float


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison, on `n_items` held-out items of `n_questions` questions."""

    reference: Reference
    rules: dict[str, StopCurve]
    k: int
    n_train: int
    n_items: int
    n_questions: int
    groups: list[str]
    prior: str


def backtest_stopping(items: Items, *, k: int, encoder: Encoder | None = None, seed: int = 0, on_progress: Progress = quiet) -> StopReport:
    """Compare the rules on held-out questions.

    Args:
        items: with at least k samples each.
        k: the most samples a rule may draw.
        encoder: for priors from the questions' texts; None takes group priors only.
        seed: of the split, the orders, the fits and the bootstrap.
        on_progress: told the step and the share done.

    Raises:
        DatasetError: too few questions to split, or samples that are all right or all wrong.
    """
    train, test = _split(items, seed)
    on_progress("priors", 0.0)
    priors = question_priors(items, train, k=k, encoder=encoder, seed=seed)
    on_progress("replay", 0.2)
    replay = _Replay.of(items, priors.values, train, k, seed)
    fitting, judging = replay.part(train), replay.part(test)
    bench = _Bench(judging, seed)
    reference = _reference(judging.runs, k)
    curves = {}
    for number, (name, settings) in enumerate(_rules(fitting, judging, seed)):
        on_progress(name, 0.25 + 0.75 * number / (len(RULES) + 2))
        points = [bench.point(setting, stopped(judging.runs, stops)) for setting, stops in settings]
        curves[name] = StopCurve(points=points, samples_at_reference=samples_at(points, reference.accuracy))
    on_progress("done", 1.0)
    return StopReport(
        reference=reference,
        rules=curves,
        k=k,
        n_train=len(train),
        n_items=len(test),
        n_questions=len(np.unique(items.question[test])),
        groups=list(items.groups),
        prior=priors.source,
    )


def samples_at(points: list[StopPoint], accuracy: float) -> float | None:
    """Mean samples at which the hull of the points, which mixtures of settings reach, first has that accuracy."""
    samples = np.array([point.samples for point in points])
    accuracies = np.array([point.accuracy for point in points])
    hull = upper_hull(samples, accuracies)
    if accuracies[hull[-1]] < accuracy - 1e-12:
        return None
    return float(np.interp(accuracy, accuracies[hull], samples[hull]))


def _rules(fitting: Watched, judging: Watched, seed: int) -> Iterator[tuple[str, Iterator[tuple[str, Stops]]]]:
    for name, rule in RULES.items():
        yield name, rule(judging.runs)
    yield "learned", _learned(fitting, judging, seed)
    yield "learned_no_prior", _learned_blind(fitting, judging)


def _learned(fitting: Watched, judging: Watched, seed: int) -> Iterator[tuple[str, Stops]]:
    fit = CheckedFit(fitting, seed=seed)
    for price in PRICES:
        policy = fit.policy(price)
        name = f"learned(price={price:.4g})"
        if policy is None:
            yield f"{name}: lead", lead_stops(judging.runs, _best_lead(fitting.runs, price))
        else:
            yield name, learned_stops(policy, judging.runs, judging.prior[:, : policy.n_prior])


def _learned_blind(fitting: Watched, judging: Watched) -> Iterator[tuple[str, Stops]]:
    fit = StopFit(fitting.blind.runs, fitting.blind.prior)
    for price in PRICES:
        yield f"learned(price={price:.4g})", learned_stops(fit.policy(price), judging.runs, judging.blind.prior)


def _best_lead(runs: Trajectories, price: float) -> int:
    """The lead that is worth most at a price of a sample."""
    found = {lead: spent(runs, lead_stops(runs, lead)) for lead in LEADS}
    return max(found, key=lambda lead: found[lead].reward - price * found[lead].samples)


def _split(items: Items, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Items to train on and to judge by; a question, and texts that are nearly the same, are on one side."""
    texts = [text or name for text, name in zip(items.texts, items.names, strict=True)]
    trained = positions(texts, f"stopping-{seed}") < TRAIN_SHARE
    if min(int(trained.sum()), int((~trained).sum())) < MIN_QUESTIONS // 2 or len(texts) < MIN_QUESTIONS:
        raise DatasetError(f"the log has {len(texts)} questions with enough samples: at least {MIN_QUESTIONS} are needed to split")
    if items.correct.min() == items.correct.max() and items.correct[0] in (0, 1):
        raise DatasetError(f"correct is {items.correct[0]:g} in all samples of all {len(items)} items: there is nothing to learn from")
    inside = trained[items.question]
    return np.flatnonzero(inside), np.flatnonzero(~inside)


@dataclass(frozen=True, slots=True)
class _Replay:
    """Everything that runs of an item are made of."""

    items: Items
    priors: Array
    scores: Array
    expected: Array
    k: int
    seed: int

    @classmethod
    def of(cls, items: Items, priors: Array, train: npt.NDArray[np.intp], k: int, seed: int) -> _Replay:
        """Answers scored, and their worth expected, by what the items at `train` teach."""
        seen = np.zeros(len(items), dtype=bool)
        seen[train] = True
        texts = [items.texts[question] for question in items.question]
        scores = answer_scores(items.answers, texts, items.answered(priors), seen, seed=seed).scores
        return cls(items, priors, scores, expected_rewards(items.answered(priors, scores), seen, seed=seed), k, seed)

    def part(self, index: npt.NDArray[np.intp]) -> Watched:
        """Runs of the items at `index`."""
        rounds = max(1, min(ROUNDS, MAX_RUNS // len(index)))
        runs, item = self.items.runs(index, self.k, rounds, seed=self.seed, scores=self.scores, expected=self.expected)
        return Watched(runs, self.priors[item], self.items.question[item])


def _reference(runs: Trajectories, k: int) -> Reference:
    rule = f"fixed({min(REFERENCE, k)})"
    result = stopped(runs, dict(fixed(runs))[rule])
    return Reference(rule=rule, samples=float(result.samples.mean()), accuracy=float(result.reward.mean()))


class _Bench:
    """Points with bootstrap intervals over questions."""

    def __init__(self, part: Watched, seed: int) -> None:
        self._question = np.unique(part.query, return_inverse=True)[1].reshape(-1)
        self._runs = np.bincount(self._question)
        self._bootstrap = Bootstrap(len(self._runs), seed=seed)
        self._drawn = self._bootstrap.means(self._runs.astype(np.float64))

    def point(self, setting: str, result: Stopped) -> StopPoint:
        """A ratio of sums, since questions have different numbers of runs."""
        total: Array = np.bincount(self._question, weights=result.reward).astype(np.float64)
        accuracy = interval_of(float(result.reward.mean()), self._bootstrap.means(total) / self._drawn)
        return StopPoint(
            setting=setting, samples=float(result.samples.mean()), accuracy=accuracy.value, low=accuracy.low, high=accuracy.high
        )


def best_published(rules: Mapping[str, StopCurve]) -> tuple[str, float] | None:
    """The published rule that reaches the reference with the fewest samples, and how many; None where none does."""
    reached = {name: curve.samples_at_reference for name, curve in rules.items() if name in RULES}
    found = [(samples, name) for name, samples in reached.items() if samples is not None]
    return (min(found)[1], min(found)[0]) if found else None

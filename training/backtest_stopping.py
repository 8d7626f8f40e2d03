"""Stop rules compared on a multi-sample log: accuracy at mean samples, for the published rules and the learned ones.

Questions are split, so the learned rule and its prior never saw what they are judged on. The prior of a question comes
from its text where the log has it, else from its group's other questions. Where the learned rule does not keep up with
the published one on questions set aside, it is the published one. Intervals resample questions.
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
from rheostat.training.bootstrap import Bootstrap, interval_of
from rheostat.training.fit import Progress, quiet
from rheostat.training.outcomes import Array
from rheostat.training.sampled_items import Items
from rheostat.training.split import positions
from rheostat.training.stop_curves import RULES, Stopped, Stops, fixed, stopped
from rheostat.training.stopping import LEADS, Watched, fit_checked, fit_stopping, lead_stops, learned_stops, spent
from rheostat.training.stopping_prior import question_priors
from rheostat.training.trajectories import Trajectories

TRAIN_SHARE = 0.6
MIN_QUESTIONS = 20
ROUNDS = 8
MAX_RUNS = 40_000
PRICES = tuple(float(price) for price in np.geomspace(0.0005, 0.1, 12))
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Runs of some items: the item's question and prior of each."""

    runs: Trajectories
    question: npt.NDArray[np.intp]
    prior: Array


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
    fitting, judging = (_part(items, priors.values, index, k, seed) for index in (train, test))
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


def _rules(fitting: _Part, judging: _Part, seed: int) -> Iterator[tuple[str, Iterator[tuple[str, Stops]]]]:
    for name, rule in RULES.items():
        yield name, rule(judging.runs)
    yield "learned", _learned(fitting, judging, seed)
    yield "learned_no_prior", _learned_blind(fitting, judging, seed)


def _learned(fitting: _Part, judging: _Part, seed: int) -> Iterator[tuple[str, Stops]]:
    data = Watched(fitting.runs, fitting.prior, fitting.question)
    for price in PRICES:
        policy = fit_checked(data, price=price, seed=seed)
        name = f"learned(price={price:.4g})"
        if policy is None:
            yield f"{name}: lead", lead_stops(judging.runs, _best_lead(fitting.runs, price))
        else:
            yield name, learned_stops(policy, judging.runs, judging.prior[:, : policy.n_prior])


def _learned_blind(fitting: _Part, judging: _Part, seed: int) -> Iterator[tuple[str, Stops]]:
    for price in PRICES:
        policy = fit_stopping(fitting.runs, fitting.prior[:, :0], price=price, seed=seed)
        yield f"learned(price={price:.4g})", learned_stops(policy, judging.runs, judging.prior[:, :0])


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


def _part(items: Items, priors: Array, index: npt.NDArray[np.intp], k: int, seed: int) -> _Part:
    chosen = items.rows(index)
    runs, item = chosen.runs(k, max(1, min(ROUNDS, MAX_RUNS // len(index))), seed=seed)
    return _Part(runs, chosen.question[item], priors[index][item])


def _reference(runs: Trajectories, k: int) -> Reference:
    rule = f"fixed({min(REFERENCE, k)})"
    result = stopped(runs, dict(fixed(runs))[rule])
    return Reference(rule=rule, samples=float(result.samples.mean()), accuracy=float(result.reward.mean()))


class _Bench:
    """Points with bootstrap intervals over questions."""

    def __init__(self, part: _Part, seed: int) -> None:
        self._question = np.unique(part.question, return_inverse=True)[1].reshape(-1)
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

"""What a learned outcome reward is worth on held-out questions: how well it tells right from wrong, and what picking by it gains.

The rivals are what costs nothing: the share of samples that agree, and the mean log-probability, both calibrated on the
same questions. Intervals are bootstrapped by question (Efron 1979); the two gains share an error of 5% (Bonferroni).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from rheostat.policies.scorers.answer_features import STATISTICS
from rheostat.router.calibration import calibration_error, fit_platt, logit
from rheostat.training.answer_groups import Groups
from rheostat.training.bootstrap import Interval
from rheostat.training.outcomes import Array, Rows
from rheostat.training.split import Split

REPORT = "report.json"
DRAWS = 2_000
ERROR_OF_A_GAIN = 0.05 / 2


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """How well a score tells right answers from wrong ones: area under the curve, Brier score, calibration error."""

    auc: float
    brier: float
    ece: float


class RewardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on the test questions.

    Attributes:
        n: answers to pick from.
        scores: how well each score tells right from wrong, over parsed answers.
        picks: share of questions answered right by each way to pick one of n.
        gains: accuracy over the vote, of picking the best by reward and of votes weighted by it; 97.5% intervals.
        helps: whether one of the gains is surely above zero.
    """

    n: int
    learner: str
    questions: int
    test_questions: int
    answers: int
    scores: dict[str, Telling]
    picks: dict[str, Interval]
    gains: dict[str, Interval]
    helps: bool
    reason: str


def report(groups: Groups, p: Array, split: Split, *, learner: str, folder: Path, seed: int) -> RewardReport:
    """Judge predictions for all rows on the test questions, and write the report beside the model.

    Args:
        p: (G * n,) P(correct) of every row.
    """
    rivals = {"learned": p, "agreement": _agreement(groups, split), "logprob": _logprob(groups, split)}
    means = _picks(groups, rivals, split.test)
    draws = np.random.default_rng(seed).multinomial(len(split.test), np.full(len(split.test), 1 / len(split.test)), size=DRAWS)
    gains = {
        name: _interval(means[name] - means["majority vote"], draws, ERROR_OF_A_GAIN) for name in ("best by reward", "votes by reward")
    }
    helps = any(gain.low > 0 for gain in gains.values())
    made = RewardReport(
        n=groups.n,
        learner=learner,
        questions=len(groups.questions),
        test_questions=len(split.test),
        answers=len(groups.rows_of(split.test)),
        scores={name: _telling(groups, values, split.test) for name, values in rivals.items()},
        picks={name: _interval(values, draws, 0.05) for name, values in means.items()},
        gains=gains,
        helps=helps,
        reason=_reason(gains, helps=helps),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return made


def _agreement(groups: Groups, split: Split) -> Array:
    """P(correct) from the share of samples that gave the answer alone."""
    share = groups.statistics[:, STATISTICS.index("share_of_votes")].astype(np.float64)
    return _platt(logit(share), groups, split)


def _logprob(groups: Groups, split: Split) -> Array:
    """P(correct) from the mean log-probability alone."""
    return _platt(logit(np.exp(np.minimum(groups.logprob, 0.0))), groups, split)


def _platt(logits: Array, groups: Groups, split: Split) -> Array:
    rows = groups.rows_of(split.calibration)
    rows = rows[groups.parsed[rows]]
    fitted = fit_platt(logits[rows, None], groups.correct[rows, None], np.ones((len(rows), 1)))
    return np.asarray(fitted(logits[:, None])[:, 0])


def _telling(groups: Groups, p: Array, queries: Rows) -> Telling:
    rows = groups.rows_of(queries)
    rows = rows[groups.parsed[rows]]
    values, labels = p[rows], groups.correct[rows]
    return Telling(
        auc=float(roc_auc_score(labels >= 0.5, values)),
        brier=float(((values - labels) ** 2).mean()),
        ece=calibration_error(values, labels, np.ones(len(rows))),
    )


def _picks(groups: Groups, scores: dict[str, Array], queries: Rows) -> dict[str, Array]:
    """(questions,) mean grade of what each way picks out of a group, over the groups of each question."""
    correct, parsed = groups.by_group(groups.correct), groups.by_group(groups.parsed)
    answers = groups.by_group(groups.answers)
    ranked = {name: np.where(parsed, groups.by_group(values), -np.inf) for name, values in scores.items()}
    votes = np.where(parsed, 1.0, 0.0)
    ways = {
        "one sample": correct.mean(axis=1),
        "majority vote": _of(correct, _heaviest(answers, votes)),
        "best by logprob": _of(correct, ranked["logprob"].argmax(axis=1)),
        "best by reward": _of(correct, ranked["learned"].argmax(axis=1)),
        "votes by reward": _of(correct, _heaviest(answers, votes * groups.by_group(scores["learned"]))),
        "any of them": correct.max(axis=1),
    }
    return {name: _by_question(values, groups, queries) for name, values in ways.items()}


def _heaviest(answers: Rows, weights: Array) -> Rows:
    """(G,) the first sample of each group whose answer has the largest sum of weights."""
    same = answers[:, :, None] == answers[:, None, :]
    return np.asarray((same * weights[:, None, :]).sum(axis=2).argmax(axis=1))


def _of(values: Array, chosen: Rows) -> Array:
    return np.asarray(np.take_along_axis(values, chosen[:, None], axis=1)[:, 0])


def _by_question(values: Array, groups: Groups, queries: Rows) -> Array:
    total = np.bincount(groups.query, weights=values, minlength=len(groups.questions))
    count = np.bincount(groups.query, minlength=len(groups.questions))
    return np.asarray(total[queries] / np.maximum(count[queries], 1))


def _interval(values: Array, draws: Rows, error: float) -> Interval:
    """The mean over questions, and the percentiles of its bootstrap draws."""
    low, high = np.quantile(draws @ values / len(values), [error / 2, 1 - error / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _reason(gains: dict[str, Interval], *, helps: bool) -> str:
    name = max(gains, key=lambda way: gains[way].value)
    gain = gains[name]
    measured = f"{name} gains {gain.value:+.3f} over the majority vote (97.5% interval {gain.low:+.3f} to {gain.high:+.3f})"
    return measured if helps else f"no gain can be told from chance: {measured}; keep to votes"

"""What is known of a question before its first sample: how often one sample is right, how often a vote, how they agree.

Three numbers an item, as logits, from learners over the question's text, cross-fitted for the questions that the stop
rule is fitted on; then the same three as means of the item's group. Without texts only the group's remain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array, Encoder
from rheostat.router.calibration import logit
from rheostat.router.features import feature_rows
from rheostat.training.fit import LEARNERS, cross_fitted
from rheostat.training.learners import TrainingSet
from rheostat.training.lexicon import TextRows
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.sampled_items import Items

ROUNDS = 4
STACK = ("logistic", "lightgbm")
_SHRINK = 5.0  # pseudo-items of the overall mean behind every group's own


class Priors(NamedTuple):
    """(n, m) numbers of every item, and whether they come from `text` or `group`."""

    values: Array
    source: str


@dataclass(frozen=True, slots=True)
class _Targets:
    """What is predicted, each (n,) in [0, 1]: a sample's reward, the vote's, and the leader's share of the vote."""

    single: Array
    vote: Array
    agreement: Array

    def columns(self) -> Array:
        return np.stack([self.single, self.vote, self.agreement], axis=1)


def question_priors(items: Items, train: npt.NDArray[np.intp], *, k: int, encoder: Encoder | None, seed: int) -> Priors:
    """Priors of all items, learned from those at `train` only.

    Args:
        items: of all questions.
        train: items whose outcomes may be looked at; their own priors are cross-fitted.
        k: samples of a vote.
        encoder: of the texts; None where there are none.
        seed: of the orders, folds and learners.
    """
    targets = _targets(items, k, seed).columns()
    group = _group_means(targets, items.group, train)
    if encoder is None or any(text is None for text in items.texts):
        return Priors(logit(group), "group")
    questions = np.unique(items.question[train])
    data = _worded(_table(items), encoder, questions)
    learned = [_predicted(data, questions, _cells(items, column, train), seed)[items.question, items.group] for column in targets.T]
    return Priors(np.column_stack([*learned, logit(group)]), "text")


def _worded(table: OutcomeTable, encoder: Encoder, train: npt.NDArray[np.intp]) -> TrainingSet:
    """Features of every question, with a lexicon of those at `train`."""
    embeddings = TextRows.of(encoder, table.texts).worded(train)
    return TrainingSet(feature_rows(embeddings, table.texts), embeddings.shape[1], table)


def _targets(items: Items, k: int, seed: int) -> _Targets:
    final, item = items.runs(np.arange(len(items)), k, ROUNDS, seed=seed)
    return _Targets(
        single=items.correct,
        vote=np.bincount(item, weights=final.value[:, -1]) / ROUNDS,
        agreement=np.bincount(item, weights=final.first[:, -1] / k) / ROUNDS,
    )


def _group_means(targets: Array, group: npt.NDArray[np.intp], train: npt.NDArray[np.intp]) -> Array:
    """(n, 3) means over the train items of each item's group; a group that has none takes the overall mean."""
    overall = targets[train].mean(axis=0)
    seen = np.bincount(group[train], minlength=int(group.max()) + 1)[:, None]
    total = np.stack([np.bincount(group[train], weights=column[train], minlength=len(seen)) for column in targets.T], axis=1)
    return np.asarray(((total + _SHRINK * overall) / (seen + _SHRINK))[group])


def _table(items: Items) -> OutcomeTable:
    """Questions x groups without outcomes: groups play the part of actions."""
    shape = (len(items.names), len(items.groups))
    nothing = np.zeros(shape)
    return OutcomeTable(
        query_ids=items.names,
        texts=tuple(text or "" for text in items.texts),
        datasets=("",) * shape[0],
        levels=(0,) * shape[0],
        actions=tuple(f"g{number}/sample@1" for number in range(shape[1])),
        reward=nothing,
        tokens=nothing,
        prompt_tokens=nothing,
        latency_s=nothing,
        weight=nothing,
    )


def _cells(items: Items, values: Array, train: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Values and weights as (questions, groups); only train items have weight."""
    reward, weight = np.zeros((len(items.names), len(items.groups))), np.zeros((len(items.names), len(items.groups)))
    at = items.question[train], items.group[train]
    reward[at], weight[at] = values[train], 1.0
    return reward, weight


def _predicted(data: TrainingSet, train: npt.NDArray[np.intp], cells: tuple[Array, Array], seed: int) -> Array:
    """(questions, groups) mean logits of the stack; those of train questions from learners that did not see them."""
    data = replace(data, table=replace(data.table, reward=cells[0], weight=cells[1]))
    seen = data.rows(train)
    logits = np.mean([LEARNERS[name](seen, seed).logits(data.features) for name in STACK], axis=0)
    folded = cross_fitted(seen, seed, STACK)
    logits[train] = np.mean([folded[name] for name in STACK], axis=0)
    return np.asarray(logits)

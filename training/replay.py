"""Labels for every action from logged samples, without new inference.

K independent samples of a base sampler (model, prompt, temperature) hold the outcome of every budget k <= K. One
sample: the mean. Best of n by score, and pass@n: exact combinatorics. Votes and stop rules: prefixes of seeded
permutations that put every sample equally often in every position, so k = 1 is exact and larger k has no bias.
An answer that could not be parsed is never a vote, always a cost, and in the denominator.

Sources: Chen et al. 2021 (pass@k); Wang et al. 2023 (self-consistency); Aggarwal et al. 2023 (Adaptive-Consistency).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ActionError, DatasetError
from rheostat.data.schema import Action
from rheostat.policies import catalogue
from rheostat.policies.catalogue import SAMPLE_TOKENS
from rheostat.policies.drawing import parse_waves
from rheostat.policies.stopping import Learned
from rheostat.training.outcomes import Array, OutcomeTable
from rheostat.training.sample_log import CHAIN, DIRECT, Sampled, SampleLog, needed
from rheostat.training.votes import WAVES, Schedule, replay_schedules

if TYPE_CHECKING:
    import polars as pl

LEARNED = Learned.spelling
VOTES = "self_consistency"
MIN_COVERAGE = 0.5
ADAPTIVE = ((8, "lead(2)"), (16, "beta(0.95)"), (16, LEARNED))


class Label(NamedTuple):
    """Expected outcome of one action on every query; each is (n,), `known` is false where too few samples exist."""

    reward: Array
    tokens: Array
    latency_s: Array
    known: npt.NDArray[np.bool_]


def replay(frame: pl.DataFrame, actions: Sequence[Action] | None = None, *, seed: int = 0) -> OutcomeTable:
    """What a frame of `Sample` columns says of some actions, by default all that need no fitted stop rule; see `label`."""
    log = SampleLog.of(frame)
    wanted = [action for action in default_actions(log) if not is_learned(action)] if actions is None else actions
    return label(log, wanted, seed=seed)


def label(log: SampleLog, actions: Sequence[Action], *, seed: int = 0) -> OutcomeTable:
    """Expected reward, tokens and latency of actions on every query of a log.

    Args:
        log: what was sampled.
        actions: what to label. Those with a learned stop rule, which is still to be fitted, are left unknown.
        seed: of the permutations.

    Returns:
        A table of all queries; cells whose samples are missing have weight 0.

    Raises:
        DatasetError: the log has no samples of a model that an action names.
        ActionError: an action's strategy cannot be replayed from independent samples.
    """
    votes = _votes(log, actions, seed)
    labels = [votes[action] if action in votes else _label(action, log) for action in actions]
    prompts = [log.sampler_of(action).prompt_tokens for action in actions]
    return OutcomeTable(
        query_ids=log.query_ids,
        texts=log.texts,
        datasets=log.datasets,
        levels=log.levels,
        actions=tuple(str(action) for action in actions),
        # Sums of exact chances may end a rounding error above one.
        reward=_stack(np.clip(label.reward, 0, 1) * label.known for label in labels),
        tokens=_stack(label.tokens * label.known for label in labels),
        prompt_tokens=_stack(prompts),
        latency_s=_stack(label.latency_s * label.known for label in labels),
        weight=_stack(label.known.astype(float) for label in labels),
    )


def default_actions(log: SampleLog) -> list[Action]:
    """The catalogue's actions for the models in the log, and votes that stop early, as far as the samples reach.

    Raises:
        DatasetError: none of the log's strategies can be replayed.
    """
    adaptive = [
        Action(model, VOTES, budget * SAMPLE_TOKENS, (("k", budget), ("stop", stop))) for model in log.models for budget, stop in ADAPTIVE
    ]
    found = [action for action in [*catalogue.default_actions(log.models), *adaptive] if _covered(action, log)]
    if not found:
        known = ", ".join(sorted({strategy for _, strategy, _ in log.samplers}))
        raise DatasetError(f"the log has samples of {known}, which cannot be replayed: {DIRECT} or {CHAIN} on half of the queries can")
    return found


def is_learned(action: Action) -> bool:
    """Whether an action's stop rule is fitted from the log."""
    return re.search(rf"\b{LEARNED}\b", str(action.arguments.get("stop", ""))) is not None


def _covered(action: Action, log: SampleLog) -> bool:
    """Whether most queries have the samples the action needs: a model tried on a few would leave no query known in full."""
    sampled = log.nearest(action)
    return sampled is not None and float((sampled.count >= needed(action)).mean()) >= MIN_COVERAGE


def _unknown(n: int) -> Label:
    return Label(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool))


def _votes(log: SampleLog, actions: Sequence[Action], seed: int) -> dict[Action, Label]:
    """Labels of the votes; those on the same samples are replayed together, which costs little more than one."""
    votes = [action for action in actions if action.strategy == VOTES]
    labels = {action: _unknown(len(log)) for action in votes if is_learned(action)}
    groups: dict[int, list[Action]] = {}
    for action in votes:
        if action not in labels:
            groups.setdefault(id(log.sampler_of(action)), []).append(action)
    for group in groups.values():
        sampled = log.sampler_of(group[0])
        schedules = [schedule_of(action, stop=str(action.arguments.get("stop", ""))) for action in group]
        found = replay_schedules(sampled.codes, sampled.correct, sampled.tokens, sampled.count, schedules, seed=seed)
        for action, schedule, result in zip(group, schedules, found, strict=True):
            latency = result.waves * sampled.mean(sampled.latency_s)
            labels[action] = Label(result.reward, result.tokens, latency, sampled.count >= schedule.k)
    return labels


def schedule_of(action: Action, *, stop: str = "") -> Schedule:
    """When a vote looks at its samples."""
    return Schedule.of(int(action.arguments.get("k", 8)), stop=stop, waves=waves_of(action))


def _label(action: Action, log: SampleLog) -> Label:
    if action.strategy not in REPLAYED:
        raise ActionError(f"{action} cannot be replayed from independent samples: only {', '.join([*REPLAYED, VOTES])} can")
    return REPLAYED[action.strategy](action, log.sampler_of(action))


def _one(action: Action, sampled: Sampled) -> Label:
    del action
    return Label(sampled.mean(sampled.correct), sampled.mean(sampled.tokens), sampled.mean(sampled.latency_s), sampled.count >= 1)


def _best(action: Action, sampled: Sampled) -> Label:
    n = int(action.arguments.get("n", 8))
    waves = len(Schedule.of(n, waves=waves_of(action)).checks)
    if action.arguments.get("stop"):
        raise ActionError(f"{action}: best-of-n is replayed without a stop rule; leave stop out")
    by_verifier = action.arguments.get("by", "logprob") == "verifier"
    reward = pass_at(sampled, n) if by_verifier else best_of(sampled, n)
    return Label(reward, n * sampled.mean(sampled.tokens), waves * sampled.mean(sampled.latency_s), sampled.count >= n)


def waves_of(action: Action) -> tuple[int, ...]:
    """Sizes of an action's waves, the last repeating."""
    return parse_waves(str(action.arguments.get("waves", ""))) or WAVES


REPLAYED: dict[str, Callable[[Action, Sampled], Label]] = {
    "direct": _one,
    "cot": _one,
    "best_of_n": _best,
}


def best_of(sampled: Sampled, n: int) -> Array:
    """(queries,) exact expected reward of the best-scored of a random n-subset; equal scores share their chance."""
    order = np.argsort(-sampled.scores, axis=1, kind="stable")
    correct = np.take_along_axis(sampled.correct, order, axis=1)
    scores = np.take_along_axis(sampled.scores, order, axis=1)
    present = np.arange(sampled.depth) < sampled.count[:, None]
    shared = _average_ties(correct, scores, present)
    # The r-th best of c wins when the other n - 1 come from the c - r below it: C(c - r, n - 1) / C(c, n).
    below = sampled.count[:, None] - 1 - np.arange(sampled.depth)
    chance = _choose_ratio(below, sampled.count[:, None], n)
    return np.asarray((shared * chance * present).sum(axis=1))


def pass_at(sampled: Sampled, n: int) -> Array:
    """(queries,) unbiased chance that at least one of n samples is right (Chen et al. 2021)."""
    wrong = sampled.count - np.rint(sampled.correct.sum(axis=1)).astype(np.intp)
    log_miss = _log_choose(wrong, n) - _log_choose(sampled.count, n)
    return np.asarray(1 - np.where(sampled.count >= n, np.exp(log_miss), 1.0))


def _average_ties(correct: Array, scores: Array, present: npt.NDArray[np.bool_]) -> Array:
    """Replace each run of equal scores by its mean reward."""
    starts = np.ones_like(present)
    starts[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | ~present[:, 1:]
    run = np.cumsum(starts.ravel()) - 1
    total = np.bincount(run, weights=correct.ravel())
    length = np.bincount(run)
    return np.asarray((total / length)[run].reshape(correct.shape))


def _choose_ratio(below: npt.NDArray[np.intp], count: npt.NDArray[np.intp], n: int) -> Array:
    """C(below, n - 1) / C(count, n), 0 where either is impossible."""
    ratio = np.exp(_log_choose(below, n - 1) - _log_choose(np.maximum(count, n), n))
    return np.asarray(np.where((below >= n - 1) & (count >= n), ratio, 0.0))


def _log_choose(total: npt.NDArray[np.intp], k: int) -> Array:
    """log C(total, k), -inf where total < k."""
    largest = int(max(total.max(initial=0), k))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])
    safe = np.maximum(total, k)
    value = log_factorial[safe] - log_factorial[k] - log_factorial[safe - k]
    return np.asarray(np.where(total >= k, value, -np.inf))


def _stack(columns: Iterable[Array]) -> Array:
    return np.stack(list(columns), axis=1).astype(np.float64)

"""Labels for every action from logged samples, without new inference.

K independent samples of a base sampler (model, prompt, temperature) hold the outcome of every budget k <= K. One
sample: the mean. Best of n: exact combinatorics (`picks`). Votes and stop rules: prefixes of seeded permutations that
put every sample equally often in every position, so k = 1 is exact and larger k has no bias. An answer that could not
be parsed is never a vote, always a cost, and in the denominator. Samples are charged in the waves that live sends.

Sources: Wang et al. 2023 (self-consistency); Aggarwal et al. 2023 (Adaptive-Consistency).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from rheostat.data.errors import ActionError, DatasetError
from rheostat.data.schema import Action
from rheostat.policies import catalogue
from rheostat.policies.catalogue import SAMPLE_TOKENS
from rheostat.policies.drawing import EARLY_WAVES, may_end_early, wave_sizes
from rheostat.policies.sampling import BestOfN, SelfConsistency
from rheostat.policies.scoring import LOGPROB
from rheostat.policies.stopping import Learned
from rheostat.training.outcomes import Array, OutcomeTable
from rheostat.training.picks import best_graded, best_of
from rheostat.training.sample_log import CHAIN, DIRECT, Sampled, SampleLog, needed
from rheostat.training.votes import Schedule, replay_schedules

if TYPE_CHECKING:
    import polars as pl

LEARNED = Learned.spelling
VOTES, BEST = "self_consistency", "best_of_n"
GRADE = "verifier"  # scorer of best-of-n for which a log's grades stand in: a verifier that is right
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

    A cap that answers of the log went beyond is raised above them: served with it they would be cut short, and be wrong.

    Raises:
        DatasetError: none of the log's strategies can be replayed.
    """
    adaptive = [
        Action(model, VOTES, budget * SAMPLE_TOKENS, (("k", budget), ("stop", stop))) for model in log.models for budget, stop in ADAPTIVE
    ]
    wanted = [*catalogue.default_actions(log.models), *adaptive]
    found = [_uncut(action, log.sampler_of(action)) for action in wanted if _covered(action, log)]
    if not found:
        known = ", ".join(sorted({strategy for _, strategy, _ in log.samplers}))
        raise DatasetError(f"the log has samples of {known}, which cannot be replayed: {DIRECT} or {CHAIN} on half of the queries can")
    return found


def _uncut(action: Action, sampled: Sampled) -> Action:
    """The action with a cap that none of the logged answers would have met; in powers of two, so that it seldom moves."""
    calls, longest = needed(action), float(sampled.tokens.max())
    drawn = longest if calls == 1 else calls * float(sampled.mean(sampled.tokens).max())
    return action if drawn <= action.max_tokens else replace(action, max_tokens=calls * 2 ** math.ceil(math.log2(longest)))


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
    if action.arguments:
        raise ActionError(f"{action} cannot be replayed: the log's samples are of plain {action.strategy}, without arguments")
    return Label(sampled.mean(sampled.correct), sampled.mean(sampled.tokens), sampled.mean(sampled.latency_s), sampled.count >= 1)


def _best(action: Action, sampled: Sampled) -> Label:
    strategy, sizes = pick_of(action)
    enough_samples, mean_latency_s = sampled.count >= strategy.n, sampled.mean(sampled.latency_s)
    if strategy.by == GRADE:
        found = best_graded(sampled, sizes, strategy.enough)
        return Label(found.reward, found.tokens, found.waves * mean_latency_s, enough_samples)
    return Label(best_of(sampled, strategy.n), strategy.n * sampled.mean(sampled.tokens), len(sizes) * mean_latency_s, enough_samples)


def pick_of(action: Action) -> tuple[BestOfN, list[int]]:
    """A best-of-n, and the sizes of its waves.

    Raises:
        ActionError: it cannot be replayed, for its stop rule or its scorer.
    """
    strategy = cast(BestOfN, catalogue.build(action))
    if strategy.rule is not None:
        raise ActionError(f"{action}: best-of-n is replayed without a stop rule; leave stop out")
    if strategy.by not in (LOGPROB, GRADE):
        raise ActionError(f"{action} cannot be replayed: a log knows no scores by {strategy.by}, only by {LOGPROB} and {GRADE}")
    return strategy, [*wave_sizes(strategy.n, waves_of(action))]


def waves_of(action: Action) -> tuple[int, ...]:
    """Sizes of the waves that live sends, the last repeating; none where it sends all samples at once."""
    strategy = cast("SelfConsistency | BestOfN", catalogue.build(action))
    return strategy.waves or (EARLY_WAVES if may_end_early(strategy) else ())


REPLAYED: dict[str, Callable[[Action, Sampled], Label]] = {
    "direct": _one,
    "cot": _one,
    BEST: _best,
}


def _stack(columns: Iterable[Array]) -> Array:
    return np.stack(list(columns), axis=1).astype(np.float64)

"""Labels for every action from logged samples, without new inference.

K independent samples of a base sampler (model, prompt, temperature) hold the outcome of every budget k <= K. One
sample: the mean. Best of n by score, and pass@n: exact combinatorics. Votes and stop rules: prefixes of seeded
permutations that put every sample equally often in every position, so k = 1 is exact and larger k has no bias.
An answer that could not be parsed is never a vote, always a cost, and in the denominator.

Sources: Chen et al. 2021 (pass@k); Wang et al. 2023 (self-consistency); Aggarwal et al. 2023 (Adaptive-Consistency).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ActionError, DatasetError
from rheostat.data.schema import Action
from rheostat.policies import catalogue
from rheostat.policies.catalogue import SAMPLE_TOKENS
from rheostat.policies.drawing import parse_waves
from rheostat.training.outcomes import Array, OutcomeTable
from rheostat.training.votes import WAVES, Schedule, replay_votes

if TYPE_CHECKING:
    import polars as pl

UNPARSED = -1
DIRECT = "direct"
CHAIN = "cot"
VOTE_TEMPERATURE = 0.8
MIN_COVERAGE = 0.5
_LEAST = -1e30
ADAPTIVE = ((8, "lead(2)"), (16, "beta(0.95)"))


@dataclass(frozen=True, slots=True)
class Sampled:
    """All samples of one base sampler, (n, K) with K the longest row; `count` says how many of a row are real.

    Attributes:
        codes: answer numbers within the query, -1 where unparsed.
        correct: 0..1.
        scores: mean log-probability, -inf where unparsed or not logged.
        count: (n,) samples present; they come first in each row.
    """

    codes: npt.NDArray[np.int16]
    correct: Array
    tokens: Array
    prompt_tokens: Array
    latency_s: Array
    scores: Array
    count: npt.NDArray[np.intp]

    @property
    def depth(self) -> int:
        """K, the samples of the best-sampled query."""
        return int(self.codes.shape[1])


Samplers = Mapping[tuple[str, str, float], Sampled]


class Label(NamedTuple):
    """Expected outcome of one action on every query; each is (n,), `known` is false where too few samples exist."""

    reward: Array
    tokens: Array
    latency_s: Array
    known: npt.NDArray[np.bool_]


def replay(frame: pl.DataFrame, actions: Sequence[Action] | None = None, *, seed: int = 0) -> OutcomeTable:
    """Expected reward, tokens and latency of every action on every query of a sample log.

    Args:
        frame: rows of `Sample` columns; `read_samples` gives it.
        actions: what to label; all that the log's depth allows when None.
        seed: of the permutations.

    Returns:
        A table of all queries; cells whose samples are missing have weight 0.

    Raises:
        DatasetError: the log is empty, or has no samples of a model that an action names.
        ActionError: an action's strategy cannot be replayed from independent samples.
    """
    if frame.is_empty():
        raise DatasetError("the log is empty: run `rheostat collect` first, or name a log with rows")
    frame = frame.with_columns(_correct_column(frame).alias("correct"))
    heads = frame.unique(["dataset", "query_id"], keep="first", maintain_order=True)
    samplers = _samplers(frame, heads)
    actions = default_actions(samplers) if actions is None else list(actions)
    labels = [_label(action, samplers, seed) for action in actions]
    prompts = [_sampler_of(action, samplers).prompt_tokens for action in actions]
    return OutcomeTable(
        query_ids=tuple(heads["query_id"].to_list()),
        texts=tuple(heads["query_text"].fill_null("").to_list()),
        datasets=tuple(heads["dataset"].to_list()),
        levels=tuple(heads["level"].to_list()) if "level" in heads.columns else (0,) * len(heads),
        actions=tuple(str(action) for action in actions),
        # Sums of exact chances may end a rounding error above one.
        reward=_stack(np.clip(label.reward, 0, 1) * label.known for label in labels),
        tokens=_stack(label.tokens * label.known for label in labels),
        prompt_tokens=_stack(prompts),
        latency_s=_stack(label.latency_s * label.known for label in labels),
        weight=_stack(label.known.astype(float) for label in labels),
    )


def default_actions(samplers: Samplers) -> list[Action]:
    """The catalogue's actions for the models in the log, and votes that stop early, as far as the samples reach.

    Raises:
        DatasetError: none of the log's strategies can be replayed.
    """
    models = sorted({model for model, _, _ in samplers})
    adaptive = [
        Action(model, "self_consistency", budget * SAMPLE_TOKENS, (("k", budget), ("stop", stop)))
        for model in models
        for budget, stop in ADAPTIVE
    ]
    found = [action for action in [*catalogue.default_actions(models), *adaptive] if _covered(action, samplers)]
    if not found:
        known = ", ".join(sorted({strategy for _, strategy, _ in samplers}))
        raise DatasetError(f"the log has samples of {known}, which cannot be replayed: {DIRECT} or {CHAIN} on half of the queries can")
    return found


def _covered(action: Action, samplers: Samplers) -> bool:
    """Whether most queries have the samples the action needs: a model tried on a few would leave no query known in full."""
    sampled = _nearest(action, samplers)
    return sampled is not None and float((sampled.count >= _needed(action)).mean()) >= MIN_COVERAGE


def _correct_column(frame: pl.DataFrame) -> pl.Expr:
    import polars as pl

    # Null is "could not be graded": nothing right was seen, and it must stay in the denominator.
    return pl.col("correct").fill_null(0.0) if "correct" in frame.columns else pl.lit(0.0)


def _samplers(frame: pl.DataFrame, heads: pl.DataFrame) -> Samplers:
    """Every base sampler's samples, rows in the order of `heads`."""
    rows = heads.select("dataset", "query_id").with_row_index("row")
    frame = frame.join(rows, on=["dataset", "query_id"]).sort("row", "sample_index")
    groups = frame.partition_by("model", "strategy", "temperature", as_dict=True)
    return {(str(key[0]), str(key[1]), float(key[2] or 0.0)): _sampled(group, len(heads)) for key, group in groups.items()}


def _sampled(group: pl.DataFrame, n: int) -> Sampled:
    import polars as pl

    row = group["row"].to_numpy().astype(np.intp)
    count = np.bincount(row, minlength=n)
    column = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    answers = group.select(pl.col("answer").rank("dense").over("row").fill_null(0).cast(pl.Int16))["answer"].to_numpy() - 1

    def grid(values: Array, empty: float = 0.0) -> Array:
        cells = np.full((n, int(count.max())), empty)
        cells[row, column] = values
        return cells

    # A parsed answer beats an unparsed one, even where its log-probability was not logged.
    scores = np.where(answers == UNPARSED, -np.inf, _numbers(group, "mean_logprob", _LEAST))
    return Sampled(
        codes=grid(answers, UNPARSED).astype(np.int16),
        correct=grid(_numbers(group, "correct")),
        tokens=grid(_numbers(group, "completion_tokens")),
        prompt_tokens=grid(_numbers(group, "prompt_tokens"))[:, 0],
        latency_s=grid(_numbers(group, "latency_s")),
        scores=grid(scores, -np.inf),
        count=count,
    )


def _numbers(group: pl.DataFrame, name: str, missing: float = 0.0) -> Array:
    import polars as pl

    if name not in group.columns:
        return np.full(len(group), missing)
    return np.asarray(group[name].cast(pl.Float64).fill_null(missing).to_numpy())


def _sampler_of(action: Action, samplers: Samplers) -> Sampled:
    sampled = _nearest(action, samplers)
    if sampled is None:
        known = ", ".join(f"{model}/{strategy}" for model, strategy, _ in sorted(samplers))
        raise DatasetError(
            f"no samples of {action.model}/{_base(action)} for {action}: collect them, or leave the action out; the log has {known}"
        )
    return sampled


def _nearest(action: Action, samplers: Samplers) -> Sampled | None:
    """The sampler at the temperature nearest to the one the action runs at, of those that are deep enough if any is.

    One call runs greedily. A log without greedy samples stands in for it with what it has.
    """
    single = action.strategy in (DIRECT, CHAIN)
    wanted = 0.0 if single else float(action.arguments.get("temperature", VOTE_TEMPERATURE))
    found = [(t, sampled) for (model, base, t), sampled in samplers.items() if (model, base) == (action.model, _base(action))]
    ranked = sorted(found, key=lambda item: (item[1].depth < _needed(action), abs(item[0] - wanted), item[0]))
    return ranked[0][1] if ranked else None


def _base(action: Action) -> str:
    return DIRECT if action.strategy == DIRECT else CHAIN


def _needed(action: Action) -> int:
    return int(action.arguments.get("k", action.arguments.get("n", 1)))


def _label(action: Action, samplers: Samplers, seed: int) -> Label:
    if action.strategy not in REPLAYED:
        raise ActionError(f"{action} cannot be replayed from independent samples: only {', '.join(REPLAYED)} can")
    return REPLAYED[action.strategy](action, _sampler_of(action, samplers), seed)


def _one(action: Action, sampled: Sampled, seed: int) -> Label:
    del action, seed
    return Label(_mean(sampled.correct, sampled), _mean(sampled.tokens, sampled), _mean(sampled.latency_s, sampled), sampled.count >= 1)


def _vote(action: Action, sampled: Sampled, seed: int) -> Label:
    k = int(action.arguments.get("k", 8))
    schedule = Schedule.of(k, stop=str(action.arguments.get("stop", "")), waves=_waves(action))
    votes = replay_votes(sampled.codes, sampled.correct, sampled.tokens, sampled.count, schedule, seed=seed)
    return Label(votes.reward, votes.tokens, votes.waves * _mean(sampled.latency_s, sampled), sampled.count >= k)


def _best(action: Action, sampled: Sampled, seed: int) -> Label:
    del seed
    n = int(action.arguments.get("n", 8))
    waves = len(Schedule.of(n, waves=_waves(action)).checks)
    if action.arguments.get("stop"):
        raise ActionError(f"{action}: best-of-n is replayed without a stop rule; leave stop out")
    by_verifier = action.arguments.get("by", "logprob") == "verifier"
    reward = pass_at(sampled, n) if by_verifier else best_of(sampled, n)
    return Label(reward, n * _mean(sampled.tokens, sampled), waves * _mean(sampled.latency_s, sampled), sampled.count >= n)


def _waves(action: Action) -> tuple[int, ...]:
    return parse_waves(str(action.arguments.get("waves", ""))) or WAVES


REPLAYED: dict[str, Callable[[Action, Sampled, int], Label]] = {
    "direct": _one,
    "cot": _one,
    "self_consistency": _vote,
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


def _mean(cells: Array, sampled: Sampled) -> Array:
    return np.asarray(cells.sum(axis=1) / np.maximum(sampled.count, 1))


def _stack(columns: Iterable[Array]) -> Array:
    return np.stack(list(columns), axis=1).astype(np.float64)

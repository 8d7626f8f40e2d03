"""The axes of inference compute: ladders of actions that differ in one budget only. Knows no engine and no log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.catalogue import COT_TOKENS, SAMPLE_TOKENS

ANSWER_TOKENS = 64  # what is left for the answer behind a budget of thinking


class Axis(NamedTuple):
    """One budget: its sizes, the strategy of each size, the cap of that, and what the size nought is, if there is one."""

    what: str
    sizes: tuple[int, ...]
    strategy: str
    cap: Callable[[int], int]
    nought: str = ""


class Rung(NamedTuple):
    """An action at one size of an axis."""

    size: int
    action: Action


class Ladder(NamedTuple):
    """The rungs of one axis on one model, the smallest first."""

    axis: str
    model: str
    rungs: tuple[Rung, ...]


_CHAIN = f"cot@{COT_TOKENS}"

AXES: Mapping[str, Axis] = {
    "reasoning": Axis("thinking tokens", (8, 16, 32, 64, 128), "cot(think={size})", lambda size: size + ANSWER_TOKENS),
    "samples": Axis("samples", (1, 2, 4, 8, 16), "self_consistency(k={size})", lambda size: size * SAMPLE_TOKENS),
    "width": Axis(
        "beams", (1, 2, 4, 8), "beam(width={size},expand=2,by={by},split=clause)", lambda size: 2 * size * SAMPLE_TOKENS
    ),
    "depth": Axis("steps searched", (1, 2, 4, 8), "beam(width=2,expand=2,depth={size},by={by},split=clause)", lambda _: 4 * SAMPLE_TOKENS),
    "simulations": Axis("rollouts", (2, 4, 8, 16), "mcts(sims={size},split=clause)", lambda size: size * SAMPLE_TOKENS),
    "rounds": Axis("revisions", (1, 2, 4), "refine(rounds={size})", lambda size: (1 + 2 * size) * SAMPLE_TOKENS, _CHAIN),
    "checks": Axis("verifier calls at most", (1, 2, 4, 8), "best_of_n(n={size},by={by})", lambda size: 2 * size * SAMPLE_TOKENS),
    "examples": Axis("solved examples", (1, 2, 4, 8), "few_shot(k={size})", lambda _: COT_TOKENS, _CHAIN),
}  # fmt: skip


def ladder(spelling: str, model: str, *, by: str) -> Ladder:
    """The ladder that `samples` or `samples=1,2,4` names on a model.

    Args:
        spelling: an axis, and its sizes where they are not the usual ones.
        model: what climbs it.
        by: what scores, on axes that need a score.

    Raises:
        ActionError: no such axis, or a size is no whole number from 1.
    """
    name, _, listed = spelling.partition("=")
    axis = AXES.get(name.strip())
    if axis is None:
        raise ActionError(f"unknown axis {name!r}: known are {', '.join(AXES)}")
    rungs = [Rung(size, _action(axis, model, size, by)) for size in _sizes(spelling, listed) or axis.sizes]
    nought = [Rung(0, Action.parse(f"{model}/{axis.nought}"))] if axis.nought else []
    return Ladder(name.strip(), model, (*nought, *rungs))


def distinct(ladders: Iterable[Ladder], actions: Sequence[Action]) -> list[Action]:
    """All actions, each once, in the order in which they were named."""
    climbed = [rung.action for each in ladders for rung in each.rungs]
    return list(dict.fromkeys([*actions, *climbed]))


def _action(axis: Axis, model: str, size: int, by: str) -> Action:
    return Action.parse(f"{model}/{axis.strategy.format(size=size, by=by)}@{axis.cap(size)}")


def _sizes(spelling: str, listed: str) -> list[int]:
    sizes = [part.strip() for part in listed.split(",") if part.strip()]
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise ActionError(f"axis {spelling!r} cannot be read: write whole numbers from 1, as in samples=1,2,4")
    return sorted({int(size) for size in sizes})

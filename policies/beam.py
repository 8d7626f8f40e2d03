"""Beam search over steps of reasoning: expand the kept paths, score the new steps, keep the best, until they end.

Three ways of keeping: `beam` the best of all (Snell et al., 2024), `dvts` the best of each of `width` independent
subtrees, for diversity (Beeching et al., 2024), `rebase` as many continuations of each path as the softmax of its
value gives it (Wu et al., 2024).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.arguments import MAX_SAMPLES, measure, one_of, whole
from rheostat.policies.base import Candidate, Context, Evidence
from rheostat.policies.process import AGGREGATIONS, Scored, StepScores
from rheostat.policies.scoring import best, elect_weighted
from rheostat.policies.steps import MAX_DEPTH, Cut, Path, Stepper, Wish, as_candidate
from rheostat.policies.together import end_of

PICKS = ("best", "vote")
REBASE_TEMPERATURE = 0.2


class Kept(NamedTuple):
    """What goes on, and how often each path is expanded; what has ended and stays; the rest is dropped."""

    wishes: list[Wish]
    ended: list[Scored]


class Shape(NamedTuple):
    """`width` paths are kept, each with `expand` continuations."""

    width: int
    expand: int


Keep = Callable[[Sequence[Scored], Shape], Kept]


class Beam:
    """beam(width): search over at most `depth` steps, `width` paths wide, `expand` continuations of each.

    `mode` is beam, dvts or rebase. A step is scored by `by` (prm, self or logprob) and a path by the `agg` (last, min
    or prod) of its steps' scores. `pick` takes the best path that ended, or the vote of all weighted by value. Steps end
    at `split` (line, paragraph or clause) or after `step_tokens`.
    """

    name: ClassVar[str] = "beam"
    single_call: ClassVar[bool] = False

    def __init__(
        self,
        width: int = 4,
        expand: int = 4,
        depth: int = 12,
        mode: str = "beam",
        by: str = "prm",
        agg: str = "last",
        pick: str = "best",
        split: str = "line",
        step_tokens: int = 96,
        temperature: float = 0.8,
    ) -> None:
        self.shape = Shape(whole(self.name, "width", width), whole(self.name, "expand", expand))
        if width * expand > MAX_SAMPLES:
            raise ActionError(f"beam(width={width},expand={expand}) draws {width * expand} steps at once: at most {MAX_SAMPLES}")
        self.depth = whole(self.name, "depth", depth, high=MAX_DEPTH)
        self.mode = one_of(self.name, "mode", mode, tuple(MODES))
        self.by = measure(self.name, by)
        self.agg = one_of(self.name, "agg", agg, tuple(AGGREGATIONS))
        self.pick = one_of(self.name, "pick", pick, PICKS)
        self.cut = Cut.checked(self.name, split=split, step_tokens=step_tokens, temperature=temperature)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the tree after every level; before the end only paths that have ended have an answer.

        Raises:
            ActionError: by a scorer that is not there.
            UpstreamError: there is no first step; so does BudgetError.
        """
        search = _Search(self, query, context)
        await search.level([Wish(Path(), self.shape.width * self.shape.expand)], first=True)
        for _ in range(self.depth - 1):
            if not search.kept.wishes or context.left_tokens() < 1:
                break
            yield search.evidence()
            try:
                await search.level(search.kept.wishes)
            except (BudgetError, UpstreamError) as error:
                yield search.evidence(end=end_of(error))
                return
        yield search.evidence(end="budget" if search.kept.wishes and context.left_tokens() < 1 else "complete")


class _Search:
    """The state of one search."""

    def __init__(self, plan: Beam, query: Query, context: Context) -> None:
        self.kept = Kept([], [])
        self._plan = plan
        self._query = query
        self._context = context
        self._stepper = Stepper(query, context, plan.cut)
        self._scores = StepScores(query, context, by=plan.by, agg=plan.agg)
        self._open: list[Scored] = []

    async def level(self, wishes: list[Wish], *, first: bool = False) -> None:
        """Expand, score, keep; where nothing came of a level, everything stays as it was."""
        paths = await self._stepper.expand(wishes)
        if first:
            paths = [replace(path, subtree=at // self._plan.shape.expand) for at, path in enumerate(paths)]
        children = await self._scores.given(self._different(paths))
        self._mark(children)
        self.kept = MODES[self._plan.mode]([*self.kept.ended, *children], self._plan.shape)
        going_on = {wish.path.node for wish in self.kept.wishes}
        self._open = [child for child in children if child.path.node in going_on]
        self._mark_fate(children)

    def _different(self, paths: Sequence[Path]) -> list[Path]:
        """The first of every text in a subtree: a step drawn twice would take the place of another."""
        seen: dict[tuple[int, str], Path] = {}
        for path in paths:
            if seen.setdefault((path.subtree if self._plan.mode == "dvts" else 0, path.text), path) is not path:
                self._stepper.tree.mark(path.node, state="dropped")
        return list(seen.values())

    def evidence(self, *, end: str = "") -> Evidence:
        """The paths that stay; at the end those that were cut off are read too."""
        paths = [*self.kept.ended, *self._open]
        found = [self._candidate(each, read=bool(end) or each.path.ended) for each in paths]
        found.sort(key=lambda each: each.index)
        chosen = best(found, "value") if self._plan.pick == "best" else elect_weighted(found, "value")
        why = f"{self._plan.pick} of {len(found)} paths by {self._plan.by}, {self._plan.agg} of the steps"
        width = self._plan.shape.width
        return Evidence(
            candidates=tuple(found), chosen=chosen, why=why, planned=width, last=bool(end), end=end, steps=self._stepper.tree.steps
        )

    def _candidate(self, each: Scored, *, read: bool) -> Candidate:
        return as_candidate(each.path, self._query, self._context, index=each.path.node, score=each.value, read=read)

    def _mark(self, children: Sequence[Scored]) -> None:
        for child in children:
            self._stepper.tree.mark(child.path.node, score=child.path.scores[-1])

    def _mark_fate(self, children: Sequence[Scored]) -> None:
        ended = {each.path.node for each in self.kept.ended}
        going_on = {each.path.node for each in self._open}
        for child in children:
            node = child.path.node
            self._stepper.tree.mark(node, state="ended" if node in ended else "kept" if node in going_on else "dropped")


def keep_best(pool: Sequence[Scored], shape: Shape) -> Kept:
    """The `width` best of all, those that have ended among them; the earlier of equals."""
    return _expanded(_ranked(pool)[: shape.width], shape.expand)


def keep_best_of_each(pool: Sequence[Scored], shape: Shape) -> Kept:
    """The best of every subtree."""
    subtrees = sorted({each.path.subtree for each in pool})
    chosen = [_ranked([each for each in pool if each.path.subtree == subtree])[0] for subtree in subtrees]
    return _expanded(chosen, shape.expand)


def keep_by_share(pool: Sequence[Scored], shape: Shape) -> Kept:
    """All that have ended; the others share what is left of `width * expand` by the softmax of their values."""
    ended = [each for each in pool if each.path.ended]
    going_on = _ranked([each for each in pool if not each.path.ended])
    room = shape.width * shape.expand - len(ended)
    if not going_on or room < 1:
        return Kept([], ended)
    weights = [math.exp((each.value - going_on[0].value) / REBASE_TEMPERATURE) for each in going_on]
    wishes = []
    for each, weight in zip(going_on, weights, strict=True):
        n = min(room, max(1, round((shape.width * shape.expand - len(ended)) * weight / sum(weights))))
        room -= n
        if n:
            wishes.append(Wish(each.path, n))
    return Kept(wishes, ended)


MODES: Mapping[str, Keep] = {"beam": keep_best, "dvts": keep_best_of_each, "rebase": keep_by_share}


def _ranked(pool: Sequence[Scored]) -> list[Scored]:
    return sorted(pool, key=lambda each: -each.value)


def _expanded(chosen: Sequence[Scored], expand: int) -> Kept:
    wishes = [Wish(each.path, expand) for each in chosen if not each.path.ended]
    return Kept(wishes, [each for each in chosen if each.path.ended])

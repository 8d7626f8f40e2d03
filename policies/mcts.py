"""Monte Carlo tree search over steps of reasoning: select by UCT, expand, roll out to the end, back the value up.

Sources: Kocsis and Szepesvari, 2006 (UCT); Hao et al., 2023 (reasoning as planning). Sequential and numbered, so that
the same seed on the same engine gives the same tree.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.arguments import measure, one_of, whole
from rheostat.policies.asking import share
from rheostat.policies.base import Candidate, Context, Evidence
from rheostat.policies.beam import PICKS
from rheostat.policies.scoring import PERFECT, Scores, best, elect_weighted, merit
from rheostat.policies.steps import MAX_DEPTH, Cut, Path, Stepper, Wish, as_candidate
from rheostat.policies.together import end_of

AGREEMENT = "agreement"
MAX_EXPLORATION = 100.0
UNKNOWN = 0.5
DRY_AFTER = 2  # draws in a row without anything new after which a step counts as known


class Node:
    """A path, what was tried behind it, and the rollouts that went through it.

    `draws` counts how often continuations were drawn, `misses` how often in a row none of them was new.
    """

    def __init__(self, path: Path, parent: Node | None = None) -> None:
        self.path = path
        self.parent = parent
        self.children: list[Node] = []
        self.rollouts: list[int] = []
        self.draws = 0
        self.misses = 0
        self.depth: int = 0 if parent is None else parent.depth + 1

    @property
    def exhausted(self) -> bool:
        """Whether nothing new can be found behind it."""
        if self.path.ended:
            return bool(self.rollouts)
        return self.misses >= DRY_AFTER and not self.open_children

    @property
    def open_children(self) -> list[Node]:
        """The children behind which something new may be found."""
        return [child for child in self.children if not child.exhausted]

    def back_up(self, rollout: int) -> None:
        """Count a rollout here and at all nodes before."""
        self.rollouts.append(rollout)
        if self.parent is not None:
            self.parent.back_up(rollout)


class Mcts:
    """mcts(sims): `sims` simulations over a tree of at most `depth` steps, `width` continuations a step.

    A simulation walks down by UCT with exploration `c`, expands the step it comes to, and completes one continuation in
    a rollout, whose value is its score by `by`, its probability per token (`logprob`), or how many rollouts agree with
    it (`agreement`). `pick` takes the best rollout, or the vote of all weighted by value.
    """

    name: ClassVar[str] = "mcts"
    single_call: ClassVar[bool] = False

    def __init__(
        self,
        sims: int = 16,
        width: int = 3,
        depth: int = 12,
        c: float = 1.0,
        by: str = AGREEMENT,
        pick: str = "best",
        split: str = "line",
        step_tokens: int = 96,
        temperature: float = 0.8,
    ) -> None:
        if not 0.0 <= c <= MAX_EXPLORATION:
            raise ActionError(f"mcts(c={c}) is out of range: c is from 0 to {MAX_EXPLORATION:g}")
        self.sims = whole(self.name, "sims", sims)
        self.width = whole(self.name, "width", width)
        self.depth = whole(self.name, "depth", depth, high=MAX_DEPTH)
        self.c = c
        self.by = measure(self.name, by)
        self.pick = one_of(self.name, "pick", pick, PICKS)
        self.cut = Cut.checked(self.name, split=split, step_tokens=step_tokens, temperature=temperature)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield all rollouts after every simulation.

        Raises:
            ActionError: by a scorer that is not there.
            UpstreamError: there is no first rollout; so does BudgetError.
        """
        search = _Search(self, query, context)
        while not (end := search.end):
            try:
                await search.simulate()
            except (BudgetError, UpstreamError) as error:
                if not search.rollouts:
                    raise
                end = end_of(error)
                break
            if not search.end:
                yield search.evidence()
        yield search.evidence(end=end)


class _Search:
    """The state of one search."""

    def __init__(self, plan: Mcts, query: Query, context: Context) -> None:
        self.rollouts: tuple[Candidate, ...] = ()
        self._plan = plan
        self._query = query
        self._context = context
        self._root = Node(Path())
        self._done = 0
        self._stepper = Stepper(query, context, plan.cut)
        self._scores = None if plan.by == AGREEMENT else Scores(query, context, plan.by)

    @property
    def end(self) -> str:
        """Why there is no further simulation; empty while there is one. A perfect score cannot be beaten."""
        if any(each.score == PERFECT for each in self.rollouts):
            return "perfect"
        if self._done >= self._plan.sims or self._root.exhausted:
            return "complete"
        return "budget" if self.rollouts and self._context.left_tokens() < 1 else ""

    async def simulate(self) -> None:
        """One walk down, one rollout, one value backed up."""
        values = [self._value(rollout) for rollout in self.rollouts]
        node = self._root
        while (open_children := node.open_children) and not self._is_narrow(node):
            node = max(open_children, key=lambda child: self._uct(child, values))
        # Half of a simulation's share for new steps, so that there is always something left for the rollout.
        for_steps = self._share // 2
        if self._may_expand(node) and for_steps >= self._plan.width:
            node = await self._expanded(node, for_steps)
        complete = await self._stepper.finish(node.path, max_tokens=self._share)
        await self._note(node, complete)

    def evidence(self, *, end: str = "") -> Evidence:
        """All rollouts, and the tree with its visits and values."""
        values = [self._value(rollout) for rollout in self.rollouts]
        self._show(self._root, values)
        if self._plan.pick == "vote":
            chosen = elect_weighted(self.rollouts, self._plan.by)
        elif self._plan.by == AGREEMENT:
            chosen = max(range(len(values)), key=lambda at: (self.rollouts[at].answer is not None, values[at], -at))
        else:
            chosen = best(self.rollouts, self._plan.by, reads_reply=self._scores is not None and self._scores.reads_reply)
        why = f"{self._plan.pick} of {len(self.rollouts)} rollouts by {self._plan.by}"
        return Evidence(
            candidates=self.rollouts, chosen=chosen, why=why, planned=self._plan.sims,
            last=bool(end), end=end, steps=self._stepper.tree.steps,
        )  # fmt: skip

    @property
    def _share(self) -> int:
        """Tokens of one of the simulations that are left."""
        return share(self._query, self._context.left_tokens(), self._plan.sims - self._done)

    def _is_narrow(self, node: Node) -> bool:
        """Whether it has been visited often enough for more continuations (progressive widening: Chaslot et al., 2008)."""
        return node.misses < DRY_AFTER and len(node.rollouts) >= (node.draws * self._plan.width) ** 2

    def _may_expand(self, node: Node) -> bool:
        is_due = bool(node.rollouts) or node is self._root
        return is_due and not node.path.ended and node.depth < self._plan.depth

    async def _expanded(self, node: Node, within: int) -> Node:
        """The first continuation that is new; the node itself where none is. The same step drawn twice is one."""
        known = {child.path.text for child in node.children}
        new: dict[str, Path] = {}
        for path in await self._stepper.expand([Wish(node.path, self._plan.width)], within=within):
            if path.text not in known:
                new.setdefault(path.text, path)
        node.draws += 1
        node.misses = 0 if new else node.misses + 1
        node.children += [Node(path, node) for path in new.values()]
        return node.children[-len(new)] if new else node

    async def _note(self, node: Node, complete: Path) -> None:
        rollout = as_candidate(complete, self._query, self._context, index=self._done)
        rollouts = (*self.rollouts, rollout)
        self.rollouts = await self._scores.given(rollouts) if self._scores else rollouts
        node.back_up(self._done)
        self._done += 1

    def _value(self, rollout: Candidate) -> float:
        if self._plan.by == AGREEMENT:
            same = sum(each.answer == rollout.answer for each in self.rollouts)
            return same / len(self.rollouts) if rollout.answer is not None else 0.0
        value = merit(rollout, self._plan.by)
        return (UNKNOWN if rollout.answer is not None else 0.0) if value is None else value

    def _uct(self, node: Node, values: Sequence[float]) -> float:
        if not node.rollouts or node.parent is None:
            return math.inf
        exploration = math.sqrt(math.log(len(node.parent.rollouts)) / len(node.rollouts))
        return mean_value(node, values) + self._plan.c * exploration

    def _show(self, node: Node, values: Sequence[float]) -> None:
        score = mean_value(node, values) if node.rollouts else None
        self._stepper.tree.mark(node.path.node, visits=len(node.rollouts), score=score)
        for child in node.children:
            self._show(child, values)


def mean_value(node: Node, values: Sequence[float]) -> float:
    """The mean value of the rollouts through a node."""
    return sum(values[rollout] for rollout in node.rollouts) / len(node.rollouts)

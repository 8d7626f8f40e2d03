"""Evidence as it grows, on a terminal: candidates as a table, searches as a tree. Knows nothing of how it comes about."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rheostat.policies.base import Candidate, Evidence, Step

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table
    from rich.tree import Tree

WIDEST_TEXT = 100
MOST_ROWS = 40  # a longer table would scroll away under the live display
COLOURS = {"open": "white", "kept": "cyan", "dropped": "bright_black", "ended": "green"}


class Watching:
    """Shows every evidence it is told of, or nothing where it is not `shown`."""

    def __init__(self, title: str, *, shown: bool) -> None:
        self._title = title
        self._shown = shown
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="ellipsis")
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    async def see(self, evidence: Evidence) -> None:
        """Show the evidence of a wave."""
        if self._live is not None:
            view = search_tree(evidence, self._title) if evidence.steps else sample_table(evidence, self._title)
            self._live.update(view, refresh=True)


def sample_table(evidence: Evidence, title: str) -> Table:
    """The candidates in submission order, the chosen one marked."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{title}: {len(evidence.candidates)} of {evidence.planned}; {evidence.why}"), title_justify="left")
    for column in ("", "sample", "model", "answer", "tokens", "score", "text"):
        table.add_column(column, justify="right" if column in ("tokens", "score") else "left", no_wrap=column == "text")
    first = max(0, len(evidence.candidates) - MOST_ROWS)
    for at, each in enumerate(evidence.candidates[first:], start=first):
        table.add_row("*" if at == evidence.chosen else "", *map(Text, _cells(each)))
    return table


def search_tree(evidence: Evidence, title: str) -> Tree:
    """The steps as a tree; dropped ones are grey and those that ended are green."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(f"{title}: {len(evidence.steps)} steps; {evidence.why}"))
    branches = {-1: root}
    for step in evidence.steps:
        branches[step.index] = branches[step.parent].add(Text(_label(step), style=COLOURS[step.state]))
    chosen = evidence.choice
    root.add(Text(f"now: {'no answer' if chosen.answer is None else chosen.answer}   ({_short(chosen.text)})", style="bold"))
    return root


def _cells(each: Candidate) -> list[str]:
    score = each.score if each.score is not None else each.mean_logprob
    answer = "-" if each.answer is None else _short(each.answer)
    return [str(each.index), each.model, answer, str(each.tokens), "" if score is None else f"{score:.2f}", _short(each.text)]


def _label(step: Step) -> str:
    score = "" if step.score is None else f"{step.score:.2f} "
    visits = f"{step.visits}x " if step.visits else ""
    return f"{score}{visits}{_short(step.text) or '(end)'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST_TEXT else line[: WIDEST_TEXT - 3] + "..."

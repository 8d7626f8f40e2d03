"""The serving part of docs/results.md, from what was measured. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from benchmarks.serving.measure import CLIENTS, SHARES, STREAMS, Row

HEADING = "## Serving"
Measures = dict[str, Callable[[Row], float | None]]
WALL: Measures = {
    **{f"added p50, clients: {n}": lambda row, n=n: row.added_p50_us.get(str(n)) for n in CLIENTS},  # type: ignore[misc]
    **{f"added p99, clients: {n}": lambda row, n=n: row.added_p99_us.get(str(n)) for n in CLIENTS},  # type: ignore[misc]
    **{f"open-loop p99 at {share:.0%}": lambda row, s=share: row.open_p99_us.get(f"{s:g}") for share in SHARES},  # type: ignore[misc]
    "requests/s": lambda row: row.per_s,
    "added a chunk, p50": lambda row: row.added_chunk_p50_us,
}
OWN: Measures = {
    "requests/s of core time": lambda row: row.per_core_s,
    "core time a chunk": lambda row: row.chunk_cpu_us,
    "RSS, MiB": lambda row: row.rss_mib,
    "failed": lambda row: None if row.note else row.failed,
}
MEASURES = WALL | OWN


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        command: that was run, without what differs from machine to machine.
        cores: of the machine.
        pinned: the gateways' core and the load's, where processes could be pinned.
        rounds, seconds: how often every window came, and how long it was.
        load_average: the system's, over a minute, at the beginning and at the end. What this run itself does is in the last.
        learner: that the routed sidecars predict with.
        rows: one a gateway, the upstream alone first.
    """

    command: str
    cores: int
    pinned: tuple[int, int] | None
    rounds: int
    seconds: float
    load_average: tuple[float, float]
    learner: str
    rows: list[Row]

    @property
    def is_quiet(self) -> bool:
        """Whether the machine had a core to spare when the run began; else wall times are the neighbours' as well."""
        return self.load_average[0] <= self.cores / 2


def lines(results: Results, measures: Measures) -> list[list[str]]:
    """One line a measure: its name, then a cell a gateway; a dash for what was not measured, the reason in its first line."""
    table = [[name, *(_cell(get(row)) for row in results.rows)] for name, get in measures.items()]
    table[0] = [shown if at == 0 else results.rows[at - 1].note or shown for at, shown in enumerate(table[0])]
    return table


def section(results: Results) -> str:
    """The whole section, under `HEADING`. Of a machine that was busy with other things only what it did not disturb."""
    head = [["", *(row.name for row in results.rows)], ["---", *("---:" for _ in results.rows)]]
    shown = [*head, *lines(results, MEASURES if results.is_quiet else OWN)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in shown)
    return f"{HEADING}\n\nWritten by `{results.command}`.\n\n{_reading(results)}\n\n{table}\n"


def _cell(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:,.0f}"


def _reading(results: Results) -> str:
    pinned = "every gateway on one core, load and upstream on another" if results.pinned else "nothing pinned to a core"
    before, after = results.load_average
    text = (
        f"Microseconds, where nothing else is said. A request of 4.4 KB through each gateway to one fake upstream, {pinned}, on a "
        f"machine of {results.cores} cores: medians of {results.rounds} rounds with windows of {results.seconds:g} s in which the gateways "
        f"take turns. *Core time*: processor time of the gateway's processes, with {CLIENTS[-1]} clients. *A chunk*: of {STREAMS} streams "
        f"at 50 tokens a second each. The *bare Python proxy* is uvicorn and aiohttp with nothing between them, and the *least Python "
        f"router* adds a key to be held, a static embedding, one call of LightGBM and a line in a log. Routed requests are decided with "
        f"{results.learner}, booked and logged. Load average {before:.1f} when it began and {after:.1f} when it ended. "
    )
    if results.is_quiet:
        return text + (
            "*Added*: less the upstream alone in the same round. *Open loop*: requests that come at random, at a share of the "
            "gateway's own requests/s."
        )
    return text + "The machine was busy with other things, so latencies are left out: they would tell of its neighbours."

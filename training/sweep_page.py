"""A sweep as a section of Markdown: which axis pays where, and a small model with more compute against a large one.

Knows rows and reports, no engine.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.schema import Action
from rheostat.training.axes import AXES, Ladder, ladder
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.results_page import markdown
from rheostat.training.scaling import growth
from rheostat.training.sweep import Row
from rheostat.training.sweep_findings import findings, told
from rheostat.training.sweep_grid import MILLIONTHS, ONE_CHAIN, ONE_SAMPLE, Grid, Key, bare, by_action, chosen_within, grid
from rheostat.training.sweep_report import ActionReport, AxisReport, report

HEADING = "## Sweep"
SIZES = ",".join(str(2**power) for power in range(8))
SCORERS = ("self", "prm", "likely", "verifier", "logprob")
MIN_SHARED = 100  # queries of two models; fewer tell nothing


def section(rows: Sequence[Row], command: str, *, seed: int = 0) -> str:
    """The whole section, under `HEADING`.

    Args:
        rows: of one or more models; an action that was run on fewer queries than others of its model is judged on those.
        command: that made the section.
        seed: of the resamples of queries.

    Raises:
        DatasetError: there are no rows.
    """
    if not rows:
        raise DatasetError("there is nothing to show: the sweep has no rows")
    by_model: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_model[Action.parse(row.action).model].append(row)
    grids = {model: grid(model, mine) for model, mine in by_model.items()}
    parts = [HEADING, f"Written by `{command}`.", _reading(rows)]
    for model, mine in by_model.items():
        found = report(mine, _ladders(model), seed=seed)
        parts += [f"### {model}", _lead(mine), _actions(found.actions, mine, seed)]
        if found.axes:
            parts += ["What more compute on one axis buys:", _axes(found.axes), _where_lead(), _where(found.axes, mine, seed)]
        if where := told(findings(grids[model], seed=seed)):
            parts.append(where)
    return "\n\n".join([*parts, *_matches(grids, seed)]) + "\n"


def _ladders(model: str) -> list[Ladder]:
    """Every axis at every size, by every scorer where one is needed; what was not run is left out by the report."""
    asked = [(name, by) for name, axis in AXES.items() for by in (SCORERS if "{by}" in axis.strategy else SCORERS[:1])]
    return [ladder(f"{name}={SIZES}", model, by=by) for name, by in asked]


def _reading(rows: Sequence[Row]) -> str:
    generated = sum(row.ledger.generated for row in rows)
    return (
        f"{len(rows):,} runs, {generated:,} generated tokens by the engines' own count. Right: share with Wilson's 95% interval; "
        "differences are paired by query with 95% bootstrap intervals. Cost is in millionths of a dollar at the prices of the "
        "configuration, every call at the price of the model it went to. `by=verifier` asks the reference itself: it is what a "
        "perfect verifier would be worth, not something to be had. `by=likely` has a larger model read every answer: the column "
        "*read* has its tokens. Many actions are compared, so now and then an interval clears nought by chance."
    )


def _lead(rows: Sequence[Row]) -> str:
    names = sorted({row.dataset.rpartition("/")[2] for row in rows})
    queries = len({(row.dataset, row.query_id) for row in rows})
    return f"{queries:,} queries of {len(names)} families: {', '.join(names)}."


def _actions(actions: Sequence[ActionReport], rows: Sequence[Row], seed: int) -> str:
    tables = by_action(rows)
    against = [(f"over {label}", _named(tables, name)) for label, name in (("one sample", ONE_SAMPLE), ("one greedy chain", ONE_CHAIN))]
    lines = []
    for each in actions:
        mine = tables[each.action]
        cost = MILLIONTHS * float(np.mean([row.cost_usd for row in mine.values()]))
        gains = [_gain(mine, other, seed) for _, other in against]
        name = f"`{each.action.partition('/')[2]}`"
        spent = [f"{each.tokens.value:.1f}", f"{each.calls.value:.1f}", f"{each.prompt_tokens:.0f}", f"{cost:.0f}"]
        lines.append([name, str(each.n), _share(each.accuracy), *gains, *spent])
    return markdown(["action", "queries", "right", *(label for label, _ in against), "tokens", "calls", "read", "cost"], lines)


def _named(tables: Mapping[str, dict[Key, Row]], strategy: str) -> dict[Key, Row]:
    return next((table for name, table in tables.items() if bare(name) == strategy), {})


def _gain(mine: Mapping[Key, Row], other: Mapping[Key, Row], seed: int) -> str:
    """The paired difference on the queries both were run on."""
    keys = sorted(set(mine) & set(other))
    if not keys or mine is other:
        return "-"
    gain = Bootstrap(len(keys), seed=seed).interval(np.array([mine[key].correct - other[key].correct for key in keys]))
    return f"{gain:+.3f}"


def _axes(axes: Sequence[AxisReport]) -> str:
    lines = []
    for each in axes:
        sizes = ", ".join(f"{point.size}: {point.accuracy.value:.3f}" for point in each.points)
        tokens = f"{each.points[0].tokens:.0f} to {each.points[-1].tokens:.0f}"
        lines.append([_axis_name(each), str(each.n), sizes, tokens, f"{each.growth.gain:+.3f}", each.growth.verdict, _knee(each)])
    return markdown(["axis", "queries", "right at each size", "tokens", "largest over smallest", "verdict", "knee"], lines)


def _knee(each: AxisReport) -> str:
    knee, largest = each.growth.knee, each.points[-1].size
    if knee is None:
        return "-"
    return f"{knee.value:.1f} ({knee.low:.1f} to {knee.high:.1f})" if knee.value <= largest else f"beyond {largest}"


def _where_lead() -> str:
    return "The same gain family by family; **bold** where its interval leaves nought out. Everything else is no clear gain:"


def _where(axes: Sequence[AxisReport], rows: Sequence[Row], seed: int) -> str:
    """A family a line, an axis a column."""
    tables: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        tables[row.dataset][row.action][row.query_id] = row.correct
    lines = [[dataset.rpartition("/")[2], *(_family_gain(table, axis, seed) for axis in axes)] for dataset, table in sorted(tables.items())]
    return markdown(["family", *(_axis_name(axis) for axis in axes)], lines)


def _family_gain(table: Mapping[str, Mapping[str, float]], axis: AxisReport, seed: int) -> str:
    first, last = (table.get(axis.points[at].action, {}) for at in (0, -1))
    shared = sorted(set(first) & set(last))
    if not shared:
        return "-"
    worth = growth(np.array([0.0, 1.0]), np.array([[first[key], last[key]] for key in shared]), seed=seed)
    told = f"{worth.gain.value:+.2f}"
    return told if worth.verdict == "no clear gain" else f"**{told}**"


def _matches(grids: Mapping[str, Grid], seed: int) -> list[str]:
    """For every pair of models, the cheaper one first: what either reaches at equal cost on the queries that both were asked."""
    names = sorted(grids, key=lambda name: _price(grids[name]))
    pairs = [(grids[small], grids[large]) for at, small in enumerate(names) for large in names[at + 1 :]]
    shared = [(small, large, set(small.keys) & set(large.keys)) for small, large in pairs]
    return [part for small, large, keys in shared if len(keys) >= MIN_SHARED for part in _match(small.on(keys), large.on(keys), seed)]


def _match(small: Grid, large: Grid, seed: int) -> list[str]:
    folds = np.arange(len(small.reward)) % 2
    usable = [small.fair, large.fair]
    boot, lines = Bootstrap(len(small.reward), seed=seed), []
    for budget in _budgets(large, usable[1]):
        got = [chosen_within(held, mine, budget, folds) for held, mine in zip((small, large), usable, strict=True)]
        means = [f"{each.mean():.3f}" for each in got]
        lines.append([f"{budget:.0f}", *means, f"{boot.interval(got[0] - got[1]):+.3f}"])
    lead = (
        f"What is right when at most so much may be spent on a query, with the best action of {small.model} and with the best of "
        f"{large.model} for that money, each chosen on one half of the queries and judged on the other. Actions that ask the other "
        "model, or the reference, are left out."
    )
    table = markdown(["cost a query", small.model, large.model, f"{small.model} over {large.model}"], lines)
    return [f"### {small.model} with more compute against {large.model}", lead, table]


def _budgets(held: Grid, usable: npt.NDArray[np.bool_]) -> list[float]:
    """The costs at which the dearer model gets better: those of its actions that no cheaper one equals."""
    cost, reward = held.cost.mean(axis=0), held.reward.mean(axis=0)
    budgets, reached = [], -1.0
    for at in np.argsort(cost, kind="stable"):
        if usable[at] and reward[at] > reached:
            reached = float(reward[at])
            budgets.append(float(np.ceil(cost[at])))
    return sorted({*budgets, float(np.ceil(cost[usable].max()))})


def _price(held: Grid) -> float:
    """Mean cost of one greedy chain, by which models are ordered."""
    return float(held.cost[:, held.find(ONE_CHAIN) or 0].mean())


def _axis_name(axis: AxisReport) -> str:
    by = re.search(r"by=(\w+)", axis.points[0].action)
    return f"{axis.axis}, {by[1]}" if by else axis.axis


def _share(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"

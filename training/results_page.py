"""What backtests, promises and stop rules came to on many tables, as a section of Markdown. Knows nothing of how they ran.

Where a table was split several times the median over the splits stands first, and every split's value behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from rheostat.router.base import Array
from rheostat.training.backtest import BacktestReport, PolicyReport
from rheostat.training.backtest_stopping import StopCurve, StopReport, best_published
from rheostat.training.curves import accuracy_at
from rheostat.training.guarantee_check import Check

HEADING = "## Logged tables"
LABELS = {
    "rheostat": "**router, from the prompt**",
    "rheostat_sequential": "**router, looking at the answers**",
    "knn": "kNN",
    "kmeans": "k-means table (Avengers-Pro)",
    "logistic": "logistic regression",
    "lightgbm": "LightGBM",
    "segment_means": "data-set means, told the data set",
    "threshold": "two-action threshold (RouteLLM)",
    "fixed_hull": "mixtures of fixed actions",
    "shuffled": "router on shuffled rewards",
    "oracle": "oracle (hindsight)",
}


class TableResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found on one table.

    Attributes:
        name: of the table.
        about: what sets it apart from the others, in a sentence; "" where its name tells enough.
        encoder: that embedded its texts.
        costs: mean costs a query at which accuracies are compared.
        backtests: one a split.
        cpu_s: processor seconds of each backtest, embedding left out.
        on_shuffled: the verdict on the same table with its rewards dealt out anew among the queries; None if not run.
        promises: one a target.
        stopping: of logs with enough samples, by what was kept from the rules; "" where nothing was. Of the same held-out items.
        notes: what could not be run, and why.
    """

    name: str
    encoder: str
    costs: list[float]
    backtests: list[BacktestReport] = []
    cpu_s: list[float] = []
    on_shuffled: str | None = None
    promises: list[Check] = []
    stopping: dict[str, StopReport] = {}
    notes: list[str] = []
    about: str = ""


def section(results: Sequence[TableResult], command: str) -> str:
    """The whole section, under `HEADING`."""
    parts = [HEADING, f"Written by `{command}`.", _reading()]
    return "\n\n".join([*parts, *(table_part(result) for result in results)]) + "\n"


def write_section(path: Path, new: str) -> None:
    """Put a section into a page, in place of the one of the same heading; a page that is not there is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replaced(path.read_text(encoding="utf-8") if path.exists() else "", new), encoding="utf-8")


def replaced(page: str, new: str) -> str:
    """A page with the section of the same heading replaced, or with the section at its end where it had none."""
    heading = new.partition("\n")[0]
    found = re.search(rf"^{re.escape(heading)}$.*?(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        return f"{page.rstrip()}\n\n{new}" if page.strip() else new
    rest = page[found.end() :]
    return page[: found.start()] + new + ("\n" + rest if rest else "")


def table_part(result: TableResult) -> str:
    """One table: its router next to its rivals, then promises and stop rules where there are any."""
    parts = [f"### {result.name}", *([result.about] if result.about else [])]
    if result.backtests:
        parts += [_lead(result), _policies(result)]
    if result.promises:
        parts.append(_promises(result.promises))
    if result.stopping:
        parts.append(_stopping(result.stopping))
    return "\n\n".join([*parts, *(f"Not run: {note}." for note in result.notes)])


def _reading() -> str:
    return (
        "Each table is split by query, 70% to fit on and 30% to judge on. *Cost ratio*: the best fixed action's cost over the "
        "policy's at the same accuracy, with the 95% bootstrap interval of the first split; 0 where it does not get there. *AIQ*: "
        "mean accuracy over all budgets between the cheapest and the dearest fixed action. All policies of a table are judged on "
        "the same rows."
    )


def _lead(result: TableResult) -> str:
    first = result.backtests[0]
    seeds = ", ".join(str(report.split.seed) for report in result.backtests)
    verdicts = [report.verdict for report in result.backtests]
    lines = [
        f"{first.split.n_train:,} queries to fit on, {first.split.n_test:,} to judge on, {len(first.actions)} actions, {result.encoder} "
        f"embeddings, splits {seeds}. Best fixed action: `{first.best_fixed.action}`, right {_digits(first.best_fixed.accuracy)} of the "
        f"time at {first.best_fixed.cost:.4g} {first.unit}{_prices(first)}.",
        f"Verdict: {_counted(verdicts)}; utility over the best fixed action {first.utility_gain:+.4f}."
        + (f" With shuffled rewards: {result.on_shuffled}." if result.on_shuffled else "")
        + (f" {np.median(result.cpu_s):.0f} CPU seconds a split." if result.cpu_s else ""),
    ]
    return "\n".join(lines)


def _prices(report: BacktestReport) -> str:
    if not report.prices:
        return ""
    return " (USD per million generated tokens: " + ", ".join(f"{model} {usd:g}" for model, usd in report.prices.items()) + ")"


def _counted(verdicts: Sequence[str]) -> str:
    if len(set(verdicts)) == 1:
        return f"**{verdicts[0]}**"
    return ", ".join(f"**{verdict}** on {verdicts.count(verdict)}" for verdict in sorted(set(verdicts)))


def _policies(result: TableResult) -> str:
    names = [name for name in LABELS if any(name in report.policies for report in result.backtests)]
    two = any(policy.apgr is not None for policy in result.backtests[0].policies.values())
    columns = ["policy", "cost ratio", *(f"right at {cost:g}" for cost in result.costs), "AIQ", "oracle gap closed"]
    rows = [_policy_row(name, result, two) for name in names]
    return markdown([*columns, "APGR"] if two else columns, rows)


def _policy_row(name: str, result: TableResult, two: bool) -> list[str]:
    reports = [report.policies[name] for report in result.backtests if name in report.policies]
    low, high = reports[0].cost_ratio_interval
    row = [LABELS[name], f"{_spread([r.cost_ratio for r in reports], '.1f')} [{low:.1f}, {high:.1f}]"]
    row += [_spread([_accuracy(report, cost) for report in reports], ".3f") for cost in result.costs]
    row += [_spread([r.aiq for r in reports], ".3f"), f"{np.median([r.oracle_gap_closed for r in reports]):.0%}"]
    return [*row, _spread([r.apgr or 0.0 for r in reports], ".3f")] if two else row


def _accuracy(policy: PolicyReport, cost: float) -> float:
    costs: Array = np.array([point.cost for point in policy.points])
    return accuracy_at(costs, np.array([point.accuracy for point in policy.points]), cost)


def _promises(checks: Sequence[Check]) -> str:
    first = checks[0]
    lead = (
        f"Promises at {1 - first.delta:.0%} ({first.splits} splits, {first.n_calibration:,} calibration queries): how often the test "
        "queries broke them, next to the plug-in threshold (the cheapest policy that met the target on the calibration queries, as "
        "cascades that calibrate a score and cut it do)."
    )
    rows = [
        [
            f"{check.target:g}",
            f"{check.miss_rate:.3f} (at most {check.miss_rate_allowed:.3f})",
            f"{check.plugin_miss_rate:.3f}",
            "-" if check.excess is None else f"{check.excess:+.4f} (at most {check.excess_allowed:.4f})",
            f"{check.infeasible_rate:.3f}",
        ]
        for check in checks
    ]
    return lead + "\n\n" + markdown(["target", "broken", "by the plug-in", "accuracy above target", "infeasible"], rows)


def _stopping(reports: Mapping[str, StopReport]) -> str:
    report = next(iter(reports.values()))
    reference, best = report.reference, best_published(report.rules)
    lead = (
        f"Stop rules on {report.n_items:,} held-out items of {report.n_questions:,} questions, at most {report.k} samples, priors from the "
        f"{report.prior}: samples a query at the accuracy of {reference.rule} ({_digits(reference.accuracy)})."
        + ("" if best is None else f" Best published rule: {best[0]}, {best[1]:.2f}.")
    )
    rows = [[name, *(_samples(each.rules[name]) for each in reports.values())] for name in report.rules]
    columns = [f"samples, {kept}" if kept else "samples" for kept in reports]
    return lead + "\n\n" + markdown(["rule", *columns], rows)


def _samples(curve: StopCurve) -> str:
    return "not reached" if curve.samples_at_reference is None else f"{curve.samples_at_reference:.2f}"


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and all values behind it where there are several."""
    middle = format(float(np.median(values)), form)
    return middle if len(values) == 1 else f"**{middle}** ({', '.join(format(value, form) for value in values)})"


def _digits(accuracy: float) -> str:
    return f"{accuracy:.4f}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its first column to the left, the others to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

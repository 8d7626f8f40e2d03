"""Draw the budget-versus-accuracy figure of a training, as the README shows it.

python benchmarks/frontier.py --state .rheostat/demo --out docs/frontier.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

from rheostat.training.evaluation import Evaluation
from rheostat.training.pipeline import latest_training, read_evaluation

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend must be chosen first


def draw(evaluation: Evaluation, out: Path) -> None:
    """Fixed actions, their random mixtures, the router with its interval, and the oracle; tokens on a log axis."""
    figure, axes = plt.subplots(figsize=(8, 4.6), dpi=150)
    router = sorted(evaluation.router, key=lambda point: point.tokens)
    axes.fill_between(
        [p.tokens for p in router], [100 * p.accuracy.low for p in router], [100 * p.accuracy.high for p in router],
        color="#0b6e99", alpha=0.15, linewidth=0,
    )  # fmt: skip
    oracle = sorted(evaluation.oracle, key=lambda point: point.tokens)
    axes.plot([p.tokens for p in oracle], [100 * p.accuracy.value for p in oracle], ":", color="#2a7a3f", label="oracle (hindsight)")
    axes.plot([p.tokens for p in router], [100 * p.accuracy.value for p in router], color="#0b6e99", linewidth=2, label="router")
    for model, marker in zip(sorted({p.name.split("/")[0] for p in evaluation.fixed}), "os^v", strict=False):
        points = [p for p in evaluation.fixed if p.name.split("/")[0] == model]
        axes.scatter([p.tokens for p in points], [100 * p.accuracy.value for p in points], s=28, marker=marker, label=f"fixed, {model}")
    best = next(p for p in evaluation.fixed if p.name == evaluation.best_fixed)
    axes.scatter([best.tokens], [100 * best.accuracy.value], s=160, marker="*", color="#c0392b", zorder=5, label=f"best fixed: {best.name}")
    axes.set_xscale("log")
    axes.set_xlabel("generated tokens a query (log)")
    axes.set_ylabel("held-out queries right, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_title(f"{evaluation.n_test} held-out queries; band: 95% interval of the router", fontsize=10, loc="left")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=Path(".rheostat/demo"), help="state folder with a training in it")
    parser.add_argument("--out", type=Path, default=Path("docs/frontier.png"))
    parser.add_argument("--training", type=Path, help="folder of a training; the newest one of --state when left out")
    options = parser.parse_args()
    draw(read_evaluation(options.training or latest_training(options.state) or options.state), options.out)


if __name__ == "__main__":
    main()

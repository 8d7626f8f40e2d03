"""`rheostat train-verifier`: learn from a log which answers are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import STATE, Encoder, Json, Seed, State, progress, require_logs, show
from rheostat.equipment import ENCODERS_FOLDER, LEARNED_FOLDER

if TYPE_CHECKING:
    from rheostat.training.bootstrap import Interval


def train_verifier(
    logs: Annotated[list[Path], typer.Argument(help="Sample logs (Parquet) with several chains of thought for each question.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the model; STATE/verifier when left out.")] = None,
    n: Annotated[int, typer.Option("--n", min=2, max=64, help="Answers judged beside one another, and picked from in the report.")] = 8,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only answers of this model; repeat. All when left out.")] = None,
    encoder: Encoder = "static",
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Learn P(correct) of answers from a log, and say whether picking by it beats the vote.

    Example: rheostat train-verifier log.parquet --n 8
    """
    from rheostat.router.encoder import load_encoder
    from rheostat.training.orm import train_reward

    require_logs(logs)
    folder = out or state / LEARNED_FOLDER
    with progress("train-verifier") as advance:
        weights = load_encoder(encoder, cache_folder=state / ENCODERS_FOLDER)
        made = train_reward(logs, folder, weights, n=n, models=model or (), seed=seed, on_progress=advance)
    rows = [
        [f"tells right from wrong: {name}", f"AUC {t.auc:.3f}", f"Brier {t.brier:.4f}, ECE {t.ece:.3f}"] for name, t in made.scores.items()
    ]
    rows += [[f"right, {name} of {made.n}", f"{share.value:.3f}", _range(share)] for name, share in made.picks.items()]
    rows += [[f"gain over the vote, {name}", f"{gain.value:+.3f}", _range(gain)] for name, gain in made.gains.items()]
    title = f"{made.learner} model on {made.answers} answers to {made.test_questions} held-out questions: {made.reason}"
    show(title, ["what", "measured", "interval, or more"], rows, json=json, value=made)
    typer.echo(f"model: {folder}", err=True)


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"

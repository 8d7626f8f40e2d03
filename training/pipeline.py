"""One training from files to a registered bundle: read, fit, judge, write, log. The command and the demo both run this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action, new_id
from rheostat.router.encoder import load_encoder
from rheostat.training.evaluate import CONFIDENCE
from rheostat.training.evaluation import Evaluation
from rheostat.training.fit import fit, quiet
from rheostat.training.registry import EVALUATION_FILE, REPORT_FILE, TEST_TABLE_FILE, Registry, Training, Version
from rheostat.training.report import write_report
from rheostat.training.tables import load_training_data


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a training left its files, what it found, and the version it registered (None without MLflow).

    `left_out` are models and strategies of the logs that no action was made of, with the share of queries they have;
    `ungraded` those with answers that nobody graded, with the share of theirs.
    """

    folder: Path
    evaluation: Evaluation
    live: dict[str, int]
    version: Version | None
    left_out: Mapping[str, float]
    ungraded: Mapping[str, float]

    @property
    def report(self) -> Path:
        """The page that shows it."""
        return self.folder / REPORT_FILE


def train_router(
    paths: Sequence[Path],
    state: Path,
    *,
    prices: Mapping[str, Price],
    encoder: str = "static",
    actions: Sequence[Action] | None = None,
    registry: Registry | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    on_progress: Callable[[str, float], None] = quiet,
) -> Trained:
    """Train a router on logs and register it.

    Args:
        paths: sample logs, segments and stores.
        state: the state folder; files go to a new folder in its `training/`, the static encoder to `encoders/`.
        prices: by model.
        encoder: `static`, `minilm`, `minilm-int8` or a folder.
        actions: what to choose from; all that the logs allow when None.
        registry: where to log and register; None keeps everything local.
        seed: of everything random.
        confidence: of the promises that the report shows, in (0, 1).
        on_progress: told the step and the share done.

    Raises:
        DatasetError: the logs do not fit, or nothing can be learned from them.
        ConfigError: the encoder's weights are not here.
        RegistryError: MLflow is away; the files are written before it is asked.
    """
    on_progress("read", 0.0)
    data = load_training_data(paths, actions=actions, seed=seed)
    on_progress("encoder", 0.05)
    name = new_id("train")
    fitted = fit(
        data.table, encoder=load_encoder(encoder, cache_folder=state / "encoders"), encoder_name=encoder, prices=prices, log=data.log,
        seed=seed, version=name, confidence=confidence, on_progress=lambda step, share: on_progress(step, 0.1 + 0.8 * share),
    )  # fmt: skip
    folder = state / "training" / name
    bundle = fitted.bundle.save(folder / "bundle")
    evaluation = fitted.evaluation
    write_report(evaluation, folder / REPORT_FILE)
    fitted.test.save(folder / TEST_TABLE_FILE)
    write_evaluation(evaluation, folder)
    on_progress("register", 0.95)
    version = None
    if registry is not None:
        version = _register(registry, evaluation, bundle, data.digests, {"encoder": encoder, "seed": seed, "queries": len(data.table)})
    on_progress("done", 1.0)
    return Trained(folder, evaluation, data.live, version, data.log.unused(data.table.actions), data.log.ungraded)


def _register(registry: Registry, evaluation: Evaluation, bundle: Path, digests: dict[str, str], params: dict[str, str | int]) -> Version:
    training = Training(
        bundle_folder=bundle,
        evaluation=msgspec.to_builtins(evaluation),
        params={**params, "learner": evaluation.learner},
        metrics=evaluation.metrics,
        digests=digests,
        report_html=bundle.parent / REPORT_FILE,
        test_table=bundle.parent / TEST_TABLE_FILE,
    )
    return registry.register(registry.log_training(training), description=f"{evaluation.verdict}: {evaluation.reason}")


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write the file that marks a training as done: last of all, and whole or not at all."""
    partial = folder / f".{EVALUATION_FILE}"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(evaluation), indent=1))
    partial.replace(folder / EVALUATION_FILE)


def read_evaluation(folder: Path) -> Evaluation:
    """What a training in this folder found.

    Raises:
        DatasetError: there is none, or one of another version.
    """
    path = folder / EVALUATION_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except FileNotFoundError:
        raise DatasetError(f"no training in {folder}: run rheostat train LOG first") from None
    except (OSError, msgspec.DecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): it is of another version or damaged, train again") from error


def latest_training(state: Path) -> Path | None:
    """The folder of the newest training in a state folder; ids sort by time."""
    done = sorted(path.parent for path in (state / "training").glob(f"*/{EVALUATION_FILE}"))
    return done[-1] if done else None

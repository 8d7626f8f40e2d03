"""Fitting the learned outcome reward: P(correct) of an answer from a log, split by question, calibrated, judged.

A linear and a boosted learner are fitted on the training questions and calibrated by Platt's sigmoid on others; the one
with the lower Brier score there is kept. Everything reported is of questions that neither step has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.samples import read_samples
from rheostat.policies.scorers.learned import RewardModel
from rheostat.router.base import Encoder
from rheostat.router.calibration import fit_platt
from rheostat.training.answer_groups import Groups, embedded, read_groups
from rheostat.training.boosting import fit_booster
from rheostat.training.fit import Progress, quiet
from rheostat.training.learners import principal_directions
from rheostat.training.orm_report import RewardReport, report
from rheostat.training.outcomes import Array, Rows
from rheostat.training.split import Split, split_rows

GROUP = 8
QUESTION_DIRECTIONS, ANSWER_DIRECTIONS = 24, 8
ROUNDS = 200
RIDGE = 20.0
MIN_QUESTIONS = 20

Columns = npt.NDArray[np.float32]


def train_reward(
    logs: Sequence[Path],
    folder: Path,
    encoder: Encoder,
    *,
    n: int = GROUP,
    models: Sequence[str] = (),
    seed: int = 0,
    on_progress: Progress = quiet,
) -> RewardReport:
    """Fit on logs, write the model to a folder, and say what it is worth.

    Args:
        logs: sample logs (Parquet) with several chains of thought for each question.
        folder: where the model goes, and `report.json` beside it.
        encoder: of questions and answers.
        n: answers that are judged beside one another, and that best-of-n picks from.
        models: only the answers of these; of all where empty.
        seed: of the split, the fit and the bootstrap.
        on_progress: told the step and the share done.

    Raises:
        DatasetError: the log has too few samples or questions, or all its answers are equally right.
    """
    on_progress("read", 0.0)
    groups = read_groups(read_samples(list(logs)), n, models=models)
    split = split_rows(groups.questions, seed=seed)
    _check(groups, split)
    vectors = embedded(groups, encoder, lambda share: on_progress("embed", 0.2 + 0.4 * share))
    directions = _directions(vectors, groups, split)
    columns = _columns(vectors, groups, directions)
    on_progress("fit", 0.6)
    fitted = [fit(columns, groups, split, directions, encoder.encoder_id, seed) for fit in (_linear, _boosted)]
    model = _better(fitted, columns, groups, split)
    on_progress("judge", 0.9)
    model.save(folder)
    return report(groups, model.p_correct(columns), split, learner=model.learner, folder=folder, seed=seed)


def _check(groups: Groups, split: Split) -> None:
    least = min(len(part) for part in split)
    if least < MIN_QUESTIONS:
        raise DatasetError(f"{len(groups.questions)} questions leave a part of {least}: collect a log of at least {8 * MIN_QUESTIONS}")
    for part, rows in split._asdict().items():
        labels = groups.correct[groups.rows_of(rows)]
        if labels.min() == labels.max():
            raise DatasetError(f"every answer of the {part} questions is graded {labels[0]:g}: nothing can be learned from such a log")


def _directions(vectors: tuple[Columns, Columns], groups: Groups, split: Split) -> dict[str, Array]:
    """Principal directions of the training questions and of their answers."""
    questions, answers = vectors
    seen = np.unique(groups.answers[groups.rows_of(split.train)])
    return {
        "question_directions": principal_directions(questions[split.train], QUESTION_DIRECTIONS),
        "answer_directions": principal_directions(answers[seen], ANSWER_DIRECTIONS),
    }


def _columns(vectors: tuple[Columns, Columns], groups: Groups, directions: dict[str, Array]) -> Columns:
    """(G * n, columns), the same as `RewardModel.columns` gives for one group."""
    questions, answers = (vector @ directions[name] for vector, name in zip(vectors, directions, strict=True))
    asked = np.repeat(groups.query, groups.n)
    return np.concatenate([questions[asked], answers[groups.answers], groups.statistics], axis=1, dtype=np.float32)


def _linear(columns: Columns, groups: Groups, split: Split, directions: dict[str, Array], encoder_id: str, seed: int) -> RewardModel:
    """Logistic regression on standardised columns."""
    from scipy.optimize import minimize

    del seed
    rows = _labelled(groups, split.train)
    x, y = columns[rows].astype(np.float64), groups.correct[rows]
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x = np.clip((x - mean) / scale, -6, 6)

    def loss(flat: Array) -> tuple[float, Array]:
        z = x @ flat[:-1] + flat[-1]
        residual = 0.5 * (1 + np.tanh(0.5 * z)) - y
        value = float((np.logaddexp(0, z) - y * z).sum() + 0.5 * RIDGE * (flat[:-1] ** 2).sum())
        return value, np.append(x.T @ residual + RIDGE * flat[:-1], residual.sum())

    flat = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    arrays = {**directions, "mean": mean, "scale": scale, "weights": flat[:-1], "bias": flat[-1:]}
    return _calibrated(RewardModel(arrays, trees=None, slope=1.0, intercept=0.0, encoder_id=encoder_id), columns, groups, split)


def _boosted(columns: Columns, groups: Groups, split: Split, directions: dict[str, Array], encoder_id: str, seed: int) -> RewardModel:
    """LightGBM on cross-entropy, since a grade may be a fraction."""
    rows = _labelled(groups, split.train)
    booster = fit_booster(columns[rows], groups.correct[rows], settings=_SETTINGS, rounds=ROUNDS, seed=seed)
    model = RewardModel(directions, trees=booster.model_to_string(), slope=1.0, intercept=0.0, encoder_id=encoder_id)
    return _calibrated(model, columns, groups, split)


_SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "lambda_l2": 10.0,
}


def _calibrated(model: RewardModel, columns: Columns, groups: Groups, split: Split) -> RewardModel:
    rows = _labelled(groups, split.calibration)
    logits, labels = model.logits(columns[rows])[:, None], groups.correct[rows][:, None]
    platt = fit_platt(logits, labels, np.ones_like(logits))
    return RewardModel(
        model.arrays, trees=model.trees, slope=float(platt.slope[0]), intercept=float(platt.intercept[0]), encoder_id=model.encoder_id
    )


def _better(models: Sequence[RewardModel], columns: Columns, groups: Groups, split: Split) -> RewardModel:
    """The model with the lower Brier score on the calibration questions."""
    rows = _labelled(groups, split.calibration)
    return min(models, key=lambda model: float(((model.p_correct(columns[rows]) - groups.correct[rows]) ** 2).mean()))


def _labelled(groups: Groups, queries: Rows) -> Rows:
    """Rows to learn from: what could not be parsed is wrong for certain and teaches nothing."""
    rows = groups.rows_of(queries)
    return rows[groups.parsed[rows]]

"""The outcome reward learned from a log: P(correct) of an answer, from embeddings and statistics of the answers.

A folder of arrays (npz), trees as LightGBM writes them, and JSON with the SHA-256 of both; nothing in it can run code.
Inference only; `training.orm` fits it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BundleError
from rheostat.data.npz import read_npz
from rheostat.data.schema import Query
from rheostat.policies.base import Call, Candidate
from rheostat.policies.scorers.answer_features import Answer, Rows, answer_statistics

if TYPE_CHECKING:
    import lightgbm

Array = npt.NDArray[np.float64]
Embed = Callable[[list[str]], Rows]

MANIFEST, ARRAYS, TREES = "reward.json", "arrays.npz", "trees.txt"
FORMAT = 1
SIGMAS = 6.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds. `encoder_id` names the weights that the embeddings must come from."""

    format: int
    learner: str
    encoder_id: str
    slope: float
    intercept: float
    sha256: dict[str, str]


class RewardModel:
    """P(correct) of answers, calibrated.

    Args:
        arrays: `question_directions` (d, q) and `answer_directions` (d, a) that embeddings are projected on, and of a
            linear model `mean`, `scale`, `weights` (columns,) and `bias` (1,).
        trees: of a boosted model; None for a linear one. Garbage in it kills the process: check its hash before.
        slope, intercept: of Platt's sigmoid over the logits.
        encoder_id: of the encoder whose embeddings it was fitted on.
    """

    def __init__(self, arrays: dict[str, Array], *, trees: str | None, slope: float, intercept: float, encoder_id: str) -> None:
        self.arrays = arrays
        self.trees = trees
        self.slope = slope
        self.intercept = intercept
        self.encoder_id = encoder_id

    @property
    def learner(self) -> str:
        """`linear` or `boosted`."""
        return "linear" if self.trees is None else "boosted"

    def columns(self, question: str, group: Sequence[Answer], embed: Embed) -> Rows:
        """(n, columns) what the model reads of the n answers to one question."""
        vectors = embed([question, *(each.answer or "" for each in group)])
        return columns_of(vectors[0], vectors[1:], answer_statistics(question, group), self.arrays)

    def p_correct(self, columns: Rows) -> Array:
        """(n,) calibrated probabilities of (n, columns) rows."""
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (self.slope * self.logits(columns) + self.intercept))))

    def logits(self, columns: Rows) -> Array:
        """(n,) logits before calibration."""
        if self.trees is not None:
            return np.asarray(self._booster.predict(columns, raw_score=True, num_threads=1), dtype=np.float64)
        standard = np.clip((columns - self.arrays["mean"]) / self.arrays["scale"], -SIGMAS, SIGMAS)
        return np.asarray(standard @ self.arrays["weights"] + self.arrays["bias"][0])

    def save(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / ARRAYS, **self.arrays)  # type: ignore[arg-type]
        files = [ARRAYS]
        if self.trees is not None:
            (folder / TREES).write_text(self.trees, encoding="utf-8")
            files.append(TREES)
        manifest = Manifest(
            format=FORMAT,
            learner=self.learner,
            encoder_id=self.encoder_id,
            slope=self.slope,
            intercept=self.intercept,
            sha256={name: _digest(folder / name) for name in files},
        )
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        """Read a folder that `save` wrote.

        Raises:
            BundleError: it is missing, of another format, or not as it was written.
        """
        manifest = _manifest(folder)
        for name, expected in manifest.sha256.items():
            if not (folder / name).is_file() or _digest(folder / name) != expected:
                raise BundleError(f"{name} of the reward model at {folder} is not as it was written: train it again")
        arrays = read_npz(folder / ARRAYS)
        trees = (folder / TREES).read_text(encoding="utf-8") if TREES in manifest.sha256 else None
        return cls(arrays, trees=trees, slope=manifest.slope, intercept=manifest.intercept, encoder_id=manifest.encoder_id)

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm

        return lightgbm.Booster(model_str=self.trees)


def columns_of(question: Rows, answers: Rows, statistics: Rows, directions: dict[str, Array]) -> Rows:
    """(n, q + a + statistics) columns from one question's (d,) embedding and those (n, d) of its answers."""
    projected = np.broadcast_to(question @ directions["question_directions"], (len(answers), directions["question_directions"].shape[1]))
    return np.concatenate([projected, answers @ directions["answer_directions"], statistics], axis=1, dtype=np.float32)


class LearnedReward:
    """orm: the reward learned from a log, as a scorer; see `base.GroupScorer`. Spends nothing.

    It judges answers beside one another: give it every sample of a query, repeated answers too.

    Args:
        model: what was learned.
        embed: texts to (n, d) vectors, by the encoder that the model names.
    """

    name = "orm"
    sees_all = True

    def __init__(self, model: RewardModel, embed: Embed) -> None:
        self._model = model
        self._embed = embed

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """P(correct) of an answer that stands alone; None where there is no answer."""
        return (await self.score_all(query, [candidate], call))[0]

    async def score_all(self, query: Query, candidates: Sequence[Candidate], call: Call) -> tuple[float | None, ...]:  # noqa: ARG002
        """P(correct) of each; None where there is no answer."""
        if not candidates:
            return ()
        group = [Answer(each.answer, each.tokens, each.mean_logprob, each.finish_reason) for each in candidates]
        p = self._model.p_correct(self._model.columns(query.text, group, self._embed))
        return tuple(None if each.answer is None else float(value) for each, value in zip(candidates, p, strict=True))


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(f"no reward model at {folder}: rheostat train-verifier LOG makes one") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"{folder / MANIFEST} cannot be read ({error}): train it again") from error
    if manifest.format != FORMAT or ARRAYS not in manifest.sha256:
        raise BundleError(f"the reward model at {folder} has format {manifest.format}, this program reads {FORMAT}: train it again")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

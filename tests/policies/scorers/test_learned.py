from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rheostat.data.errors import BundleError
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate
from rheostat.policies.scorers.answer_features import STATISTICS
from rheostat.policies.scorers.learned import ARRAYS, MANIFEST, LearnedReward, RewardModel

WIDTH = 2 + 1 + len(STATISTICS)


def embed(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), text.count("7"), 1.0] for text in texts], dtype=np.float32)


def linear(weight_of_votes: float = 4.0) -> RewardModel:
    weights = np.zeros(WIDTH)
    weights[3 + STATISTICS.index("share_of_votes")] = weight_of_votes
    arrays = {
        "question_directions": np.eye(3)[:, :2], "answer_directions": np.eye(3)[:, 1:2],
        "mean": np.zeros(WIDTH), "scale": np.ones(WIDTH), "weights": weights, "bias": np.array([-2.0]),
    }  # fmt: skip
    return RewardModel(arrays, trees=None, slope=1.0, intercept=0.0, encoder_id="test:1")


def candidates(*answers: str | None) -> list[Candidate]:
    return [Candidate(index=at, model="m", text="", answer=answer, tokens=9, mean_logprob=-0.1) for at, answer in enumerate(answers)]


async def test_answers_are_judged_beside_one_another(booked) -> None:
    reward = LearnedReward(linear(), embed)
    often, again, rare, none = await reward.score_all(Query.of_text("?"), candidates("7", "7", "8", None), booked)

    assert often == again == pytest.approx(1 / (1 + np.exp(2 - 4 * 0.5)))
    assert rare < often
    assert none is None
    assert booked.attempts == []


async def test_one_alone_is_a_group_of_one(booked) -> None:
    reward = LearnedReward(linear(), embed)

    assert await reward.score(Query.of_text("?"), candidates("7")[0], booked) == pytest.approx(1 / (1 + np.exp(2 - 4)))
    assert await reward.score_all(Query.of_text("?"), [], booked) == ()


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    linear().save(tmp_path)
    loaded = RewardModel.load(tmp_path)

    assert (loaded.p_correct(rows) == linear().p_correct(rows)).all()
    assert (loaded.learner, loaded.encoder_id) == ("linear", "test:1")


def test_calibration_keeps_the_order() -> None:
    rows = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    model = linear()
    flat = RewardModel(model.arrays, trees=None, slope=0.5, intercept=-1.0, encoder_id="test:1")

    assert (np.argsort(flat.p_correct(rows), kind="stable") == np.argsort(model.p_correct(rows), kind="stable")).all()


def spoil(folder: Path) -> None:
    (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes() + b"x")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (spoil, "not as it was written"),
        (lambda folder: (folder / ARRAYS).unlink(), "not as it was written"),
        (lambda folder: (folder / MANIFEST).unlink(), "train-verifier"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"format": 1', '"format": 9')), "format 9"),
    ],
    ids=["changed", "gone", "no manifest", "no JSON", "another format"],
)
def test_a_folder_that_is_not_as_it_was_written_is_refused(tmp_path: Path, harm, words: str) -> None:
    linear().save(tmp_path)
    harm(tmp_path)
    with pytest.raises(BundleError, match=words):
        RewardModel.load(tmp_path)

"""The outcome reward on made-up logs whose truth is known."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.samples import read_samples, samples_frame, write_samples
from rheostat.data.schema import Sample
from rheostat.policies.scorers.answer_features import STATISTICS, Answer, answer_statistics
from rheostat.policies.scorers.learned import RewardModel
from rheostat.training.answer_groups import read_groups
from rheostat.training.orm import train_reward
from rheostat.training.orm_report import REPORT, RewardReport

QUESTIONS, DRAWN = 240, 16


class LetterEncoder:
    """Three numbers a text."""

    encoder_id = "letters:1"
    dimension = 3

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = np.array([[len(text) + 1.0, text.count("1") + 0.1, 1.0] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sample(question: int, index: int, answer: str | None, correct: float, logprob: float) -> Sample:
    return Sample(
        dataset="made", query_id=str(question), query_text=f"question {question}?", model="m", strategy="cot", sample_index=index,
        temperature=0.8, answer=answer, gold="1", correct=correct, prompt_tokens=9, completion_tokens=20, latency_s=0.1,
        kind="number", mean_logprob=logprob,
    )  # fmt: skip


def write_log(path: Path, *, telling: bool, questions: int = QUESTIONS) -> Path:
    """Two answers in five are right, and most wrong ones agree; log-probabilities tell which is which, or nothing."""
    rng = random.Random(7)
    rows = []
    for question in range(questions):
        right_one, *wrong_ones = (str(number) for number in rng.sample(range(10, 100), 3))
        for index in range(DRAWN):
            right = rng.random() < 0.4
            answer = right_one if right else rng.choice([wrong_ones[0], *wrong_ones, None])
            logprob = -0.1 - rng.random() * (0.2 if right or not telling else 0.9)
            rows.append(sample(question, index, answer, float(right), logprob))
    write_samples(path, samples_frame(rows))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RewardReport, Path, Path]:
    folder = tmp_path_factory.mktemp("reward")
    log = write_log(folder / "log.parquet", telling=True)
    return train_reward([log], folder / "model", LetterEncoder(), n=8, seed=1), folder / "model", log


def test_picking_by_a_telling_reward_beats_the_vote(trained) -> None:
    report, _, _ = trained

    assert report.helps
    assert report.picks["best by reward"].value > report.picks["majority vote"].value > report.picks["one sample"].value
    assert report.picks["any of them"].value >= max(share.value for share in report.picks.values())
    assert report.scores["learned"].auc > report.scores["agreement"].auc
    assert report.scores["learned"].brier < min(report.scores[rival].brier for rival in ("agreement", "logprob"))


def test_p_correct_is_calibrated_on_held_out_questions(trained) -> None:
    assert trained[0].scores["learned"].ece < 0.08


def test_the_report_lies_beside_the_model(trained) -> None:
    report, folder, _ = trained

    assert msgspec.json.decode((folder / REPORT).read_bytes(), type=RewardReport) == report


def test_serving_sees_the_columns_that_training_saw(trained) -> None:
    _, folder, log = trained
    model, groups = RewardModel.load(folder), read_groups(read_samples(log), 8)
    first = [Answer(groups.texts[at] or None, 20, float(lp)) for at, lp in zip(groups.answers[:8], groups.logprob[:8], strict=True)]
    columns = model.columns(groups.questions[0], first, LetterEncoder().encode)

    assert np.allclose(columns[:, -len(STATISTICS) :], groups.statistics[:8])
    assert ((model.p_correct(columns) > 0) & (model.p_correct(columns) < 1)).all()


def test_the_same_log_and_seed_give_the_same_model(trained, tmp_path: Path) -> None:
    report, folder, log = trained
    again = train_reward([log], tmp_path, LetterEncoder(), n=8, seed=1)

    assert again == report
    assert (tmp_path / "reward.json").read_bytes() == (folder / "reward.json").read_bytes()


def test_where_nothing_tells_right_from_wrong_it_says_so(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", telling=False)
    steps: list[str] = []
    report = train_reward([log], tmp_path / "model", LetterEncoder(), n=8, on_progress=lambda step, _: steps.append(step))

    assert not report.helps
    assert "keep to votes" in report.reason
    assert steps[0] == "read"
    assert steps[-1] == "judge"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"n": 64}, "no question has 64"), ({"models": ["other"]}, "no question has 8"), ({"questions": 30}, "collect a log of at least")],
)
def test_a_log_that_is_too_small_is_refused(tmp_path: Path, options: dict, words: str) -> None:
    log = write_log(tmp_path / "log.parquet", telling=True, questions=options.pop("questions", QUESTIONS))
    with pytest.raises(DatasetError, match=words):
        train_reward([log], tmp_path / "model", LetterEncoder(), **{"n": 8, **options})


def test_a_log_without_a_wrong_answer_is_refused(tmp_path: Path) -> None:
    rows = [sample(question, index, "1", 1.0, -0.1) for question in range(QUESTIONS) for index in range(8)]
    write_samples(tmp_path / "log.parquet", samples_frame(rows))
    with pytest.raises(DatasetError, match="graded 1"):
        train_reward([tmp_path / "log.parquet"], tmp_path / "model", LetterEncoder(), n=8)


def test_groups_are_cut_in_the_order_of_drawing_and_share_no_sample(tmp_path: Path) -> None:
    rows = [sample(0, index, str(index), float(index == 3), -0.1) for index in reversed(range(11))]
    groups = read_groups(samples_frame(rows), 4)

    assert [groups.texts[at] for at in groups.answers] == [str(index) for index in range(8)]
    assert groups.correct.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    expected = answer_statistics("question 0?", [Answer(str(index), 20, -0.1) for index in range(4)])
    assert (groups.statistics[:4] == expected).all()

"""What a training leaves behind is whole, or is told to be not."""

from __future__ import annotations

import pytest

from rheostat.data.errors import DatasetError
from rheostat.training.pipeline import latest_training, read_evaluation, write_evaluation
from rheostat.training.registry import EVALUATION_FILE
from tests.training.fitting import fitted


def test_an_evaluation_is_read_as_it_was_written(tmp_path):
    evaluation = fitted().evaluation
    write_evaluation(evaluation, tmp_path)
    assert read_evaluation(tmp_path) == evaluation


def test_a_training_that_did_not_end_is_none(tmp_path):
    for name in ("train-1", "train-2"):
        (tmp_path / "training" / name / "bundle").mkdir(parents=True)
    (tmp_path / "training" / "train-2" / f".{EVALUATION_FILE}").write_text("{")
    assert latest_training(tmp_path) is None
    (tmp_path / "training" / "train-1" / EVALUATION_FILE).write_text("{}")
    assert latest_training(tmp_path) == tmp_path / "training" / "train-1"


@pytest.mark.parametrize("text", ["", '{"bundle": "1"', '{"bundle": "of another version"}', "[]"])
def test_an_evaluation_of_another_version_or_cut_short_is_told_and_not_thrown(tmp_path, text):
    (tmp_path / EVALUATION_FILE).write_text(text)
    with pytest.raises(DatasetError, match="train again"):
        read_evaluation(tmp_path)


def test_a_folder_without_a_training_says_how_to_get_one(tmp_path):
    with pytest.raises(DatasetError, match="run rheostat train LOG first"):
        read_evaluation(tmp_path / "none")

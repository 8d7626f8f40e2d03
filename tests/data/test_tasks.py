from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.answers import same
from rheostat.data.errors import DatasetError
from rheostat.data.problems import FAMILIES, LEVELS, split_of
from rheostat.data.tasks import load_tasks


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def test_the_suite_holds_every_family_at_every_level_evenly() -> None:
    cells = Counter((task.dataset, task.level) for task in load_tasks("pocket"))
    assert len(cells) == len(FAMILIES) * len(LEVELS)
    assert set(cells.values()) == {10}


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_suite_is_unique_held_out_and_has_references(seed: int) -> None:
    tasks = load_tasks("pocket", n=200, seed=seed)
    assert len({task.text for task in tasks}) == len({task.query_id for task in tasks}) == 200
    for task in tasks:
        assert split_of(task.text) == "heldout"
        assert task.reference is not None
        assert task.kind is not None
        assert same(task.reference, task.reference, task.kind)


def test_the_same_seed_gives_the_same_tasks_and_more_only_adds() -> None:
    assert load_tasks("pocket", n=50, seed=3) == load_tasks("pocket", n=100, seed=3)[:50]
    assert load_tasks("pocket", n=50, seed=3) != load_tasks("pocket", n=50, seed=4)


def test_the_id_of_a_question_does_not_depend_on_the_seed() -> None:
    ids = [{task.text: task.query_id for task in load_tasks("pocket:weekday", n=1_000, seed=seed)} for seed in (1, 2)]
    common = ids[0].keys() & ids[1].keys()
    assert common
    assert all(ids[0][text] == ids[1][text] for text in common)


def test_some_families_can_be_asked_for() -> None:
    assert {task.dataset for task in load_tasks("pocket: addition, story", n=20)} == {"pocket/addition", "pocket/story"}


def test_a_used_up_space_is_filled_from_the_other_levels() -> None:
    levels = Counter(task.level for task in load_tasks("pocket:weekday", n=200))
    assert sum(levels.values()) == 200
    assert levels[1] < levels[4]


def test_asking_for_more_than_there_is_ends() -> None:
    assert 100 < len(load_tasks("pocket:weekday", n=100_000)) < 100_000


@pytest.mark.parametrize(
    ("spec", "n", "message"),
    [
        ("pocket:adition", None, "addition, subtraction"),
        ("pocket", 0, "at least one task"),
        ("reasoning_gym:chain_sm", None, "did you mean chain_sum"),
        ("reasoning_gym:", None, "did you mean"),
        ("poket", None, "names no task set"),
        ("missing.jsonl", None, "cannot read"),
    ],
)
def test_a_spec_that_names_nothing_says_what_would(spec: str, n: int | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_tasks(spec, n=n)


def test_gym_tasks_reproduce() -> None:
    tasks = load_tasks("reasoning_gym:chain_sum", n=4, seed=1)
    assert [task.kind for task in tasks] == ["number"] * 4
    assert tasks == load_tasks("reasoning_gym:chain_sum", n=4, seed=1)
    assert tasks[0].text != load_tasks("reasoning_gym:chain_sum", n=4, seed=2)[0].text


def test_a_file_of_questions_is_read_with_kinds_told_by_the_answers(tmp_path: Path) -> None:
    spec = write(
        tmp_path / "mine.jsonl",
        {"id": 1, "question": "How many?", "answer": 12.0, "level": 3},
        "",
        {"id": "b", "question": "Is it?", "answer": True, "level": "hard"},
        {"id": "c", "question": "Which?", "answer": "B", "options": ["x", "(B) y"]},
        {"id": "d", "question": "Who?", "answer": "3", "kind": "text"},
    )
    tasks = load_tasks(spec)
    assert [(task.query_id, task.kind, task.reference, task.level) for task in tasks] == [
        ("1", "number", "12.0", 3),
        ("b", "yesno", "yes", 0),
        ("c", "choice", "B", 0),
        ("d", "text", "3", 0),
    ]
    assert tasks[2].text == "Which?\n(A) x\n(B) y"
    assert {task.dataset for task in tasks} == {"mine"}


def test_a_compressed_file_is_sampled_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"id": i, "question": f"What is {i} + 1?", "answer": i + 1}) + "\n" for i in range(50))
    chosen = load_tasks(str(path), n=10, seed=5)
    assert len({task.query_id for task in chosen}) == 10
    assert chosen == load_tasks(str(path), n=10, seed=5)
    assert len(load_tasks(str(path), n=500)) == 50


def test_the_mark_that_some_editors_put_before_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert [task.text for task in load_tasks(str(path))] == ["q"]


GOOD = {"id": "a", "question": "q", "answer": "1"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a list"),
        ({"question": "q", "answer": "1"}, "line 2: id is missing"),
        ({"id": "b", "question": " ", "answer": "1"}, "line 2: question is empty"),
        ({"id": "b", "question": "q", "answer": None}, "line 2: answer is a NoneType"),
        ({"id": "b", "question": "q", "answer": "1", "kind": "float"}, "line 2: kind is 'float': use one of number"),
        (GOOD, "line 2: id 'a' was there before"),
    ],
)
def test_a_bad_row_is_named_by_line_field_and_reason(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_tasks(write(tmp_path / "bad.jsonl", GOOD, row))


def test_an_empty_a_binary_and_a_truncated_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no rows"):
        load_tasks(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(DatasetError, match="line 1: not JSON"):
        load_tasks(str(tmp_path / "binary.jsonl"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-9])
    with pytest.raises(DatasetError, match="cannot read"):
        load_tasks(str(tmp_path / "cut.jsonl.gz"))

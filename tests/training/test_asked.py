"""Which samples of a store are of the tasks that are asked."""

from __future__ import annotations

import pytest
from msgspec import structs

from rheostat.data.schema import Query, Sample
from rheostat.training.asked import Asked, content, told_apart
from rheostat.training.samplers import Sampler

TASKS = [Query.of_text(f"What is {i}+{i}?", query_id=f"{i}", kind="number", reference=str(2 * i), dataset="mine") for i in range(4)]
COT = Sampler(model="m", strategy="cot", temperature=0.8, k=2, max_tokens=9)


def sample(task: Query, index: int = 0, **fields) -> Sample:
    text, kind, gold = content(task)
    drawn = {
        "dataset": task.dataset, "query_id": task.query_id, "query_text": text, "kind": kind, "gold": gold, "model": "m",
        "strategy": "cot", "temperature": 0.8, "sample_index": index, "answer": gold, "correct": 1.0, "prompt_tokens": 1,
        "completion_tokens": 1, "latency_s": 0.1,
    }  # fmt: skip
    return Sample(**{**drawn, **fields})


def asked_again(task: Query) -> Query:
    """The task under the id that it is stored under, where the store has the tasks as they were."""
    (stored,) = told_apart([task], map(sample, TASKS))
    return stored


def test_tasks_that_are_new_or_as_they_are_stored_keep_their_ids():
    assert told_apart(TASKS, []) == told_apart(TASKS, map(sample, TASKS)) == TASKS
    assert told_apart(TASKS[:2], map(sample, TASKS)) == TASKS[:2]


@pytest.mark.parametrize(
    "changed",
    [
        structs.replace(TASKS[1], reference="3"),
        structs.replace(TASKS[1], kind="text"),
        Query.of_text("What is 1 + 1?", query_id="1", kind="number", reference="2", dataset="mine"),
    ],
    ids=["reference", "kind", "question"],
)
def test_a_task_with_another_question_kind_or_reference_is_another_one_always_the_same(changed):
    stored = asked_again(changed)
    assert stored.query_id not in {task.query_id for task in TASKS}
    assert (content(stored), stored.dataset) == (content(changed), changed.dataset)
    assert told_apart([changed], [*map(sample, TASKS), sample(stored)]) == [stored]


def test_an_id_under_which_two_tasks_are_stored_is_taken_for_neither():
    mixed = [sample(TASKS[1]), sample(structs.replace(TASKS[1], reference="3"), 1)]
    assert told_apart([TASKS[1]], mixed)[0].query_id != "1"


def test_samples_are_given_back_under_the_ids_of_the_tasks_asked_and_no_others():
    changed = structs.replace(TASKS[1], reference="3")
    store = [*map(sample, TASKS), sample(asked_again(changed), correct=0.0)]
    asked = Asked([TASKS[0], changed], [COT], store)

    assert asked.changed == 1
    assert [(found.query_id, found.gold) for found in asked.of(store)] == [("0", "0"), ("1", "3")]
    assert asked.graded(store)["m"].right == 1.0


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"strategy": "direct"}, {"temperature": 0.0}, {"sample_index": 2}, {"dataset": "theirs"}]
)
def test_samples_drawn_otherwise_than_asked_are_left_out(other):
    assert list(Asked(TASKS, [COT], []).of([sample(TASKS[0], **other)])) == []


def test_an_answer_that_cannot_be_graded_is_counted_apart():
    found = Asked(TASKS, [COT], []).graded([sample(TASKS[0]), sample(TASKS[1], correct=None)])["m"]
    assert (found.samples, found.graded, found.right) == (2, 1, 1.0)

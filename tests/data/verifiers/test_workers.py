from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rheostat.data.errors import ConfigError
from rheostat.data.verifiers import work, workers
from rheostat.data.verifiers.workers import TaskError, Workers


@pytest.fixture
def pool() -> Iterator[Workers]:
    pool = Workers(2, timeout_s=30.0)
    yield pool
    pool.close()


def test_threads_share_the_workers(pool: Workers) -> None:
    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda number: pool.ask("regex", str(number), "[0-4]"), range(10)))

    assert scores == [1.0] * 5 + [0.0] * 5


def test_a_late_worker_is_killed_and_replaced() -> None:
    pool = Workers(1, timeout_s=0.5)
    try:
        assert pool.ask("regex", "a" * 64 + "b", "(a+)+") is None
        assert pool.ask("regex", "aa", "(a+)+") in (1.0, None)  # None where starting again took longer than the clock allows
    finally:
        pool.close()


def test_a_worker_that_dies_is_an_abstention(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.ask("regex", "a", "a") == 1.0
    monkeypatch.setattr(workers, "_line", lambda *_: None)
    worker = pool._idle.queue[-1]

    assert worker.ask(["regex", "a", "a"], 1.0) is None


def test_a_worker_that_was_killed_while_idle_is_replaced() -> None:
    pool = Workers(1, timeout_s=30.0)
    try:
        for _ in range(2):
            assert pool.ask("regex", "a", "a") == 1.0
            process = pool._idle.queue[0]._process
            assert process is not None
            process.kill()
            process.wait()
        assert pool.ask("regex", "a", "b") == 0.0
    finally:
        pool.close()


def test_a_worker_that_dies_while_it_is_asked_is_an_abstention_and_the_next_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Workers(1, timeout_s=30.0)
    try:
        assert pool.ask("regex", "a", "a") == 1.0
        process = pool._idle.queue[0]._process
        assert process is not None
        process.kill()
        process.wait()
        with monkeypatch.context() as patch:
            patch.setattr(workers._Worker, "_forget_the_dead", lambda _: None)  # it died a moment later
            assert pool.ask("regex", "a", "a") is None
        assert pool.ask("regex", "a", "a") == 1.0
    finally:
        pool.close()


def test_an_unusable_reference_is_named(pool: Workers) -> None:
    with pytest.raises(TaskError, match="nothing to repeat"):
        pool.ask("regex", "a", "*")


def test_a_worker_that_does_not_start_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PROGRAM", "rheostat.data.verifiers.no_such_module")
    with pytest.raises(ConfigError, match="did not start"):
        Workers(1).ask("regex", "a", "a")


def test_a_missing_package_is_named_with_its_extra(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers._Worker, "ask", lambda *_: {"missing": "math_verify"})
    with pytest.raises(ConfigError, match=r"math_verify: pip install 'rheostat\[verify\]'"):
        pool.ask("latex", "1", "1")


def test_every_task_can_be_loaded_without_a_question() -> None:
    assert all(work.answer_to([task]) == {"score": 1.0} for task in work.TASKS)


def test_what_a_library_cannot_do_is_an_abstention(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(answer: str, reference: str) -> float:
        raise NotImplementedError

    def lacks(answer: str, reference: str) -> float:
        raise ModuleNotFoundError(name="sympy")

    monkeypatch.setitem(work.TASKS, "latex", fails)
    assert work.answer_to(["latex", "1", "1"]) == {"score": None}
    monkeypatch.setitem(work.TASKS, "latex", lacks)
    assert work.answer_to(["latex", "1", "1"]) == {"missing": "sympy"}


@pytest.mark.parametrize(
    ("task", "answer", "reference", "said"),
    [
        ("regex", "a", "b", {"score": 0.0}),
        ("latex", "$1/2$", "0.5", {"score": 1.0}),
        ("json_schema", "[", "{}", {"score": 0.0}),
    ],
)
def test_a_line_is_answered_with_a_line(task: str, answer: str, reference: str, said: dict[str, float]) -> None:
    assert work.answer_to([task, answer, reference]) == said


def test_what_is_wrong_with_a_reference_is_said() -> None:
    assert "refused" in work.answer_to(["regex", "a", "("])
    assert "refused" in work.answer_to(["latex", "1", ""])
    assert "refused" in work.answer_to(["json_schema", "1", "["])
    assert "refused" in work.answer_to(["json_schema", "1", '{"$ref": "other"}'])

"""Solutions that try to pass without solving anything."""

from __future__ import annotations

import pytest

from rheostat.data.errors import DatasetError, SandboxError
from rheostat.data.sandbox import Limits, Sandbox, exam, run_cases, run_tests

TESTS = """
def test_small(): assert double(2) == 4
def test_large(): assert double(10**30) == 2 * 10**30
"""


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(Limits(wall_s=30.0, cpu_s=3, memory_mb=256, processes=8), allow_weak=True)


def test_a_right_solution_passes(sandbox: Sandbox) -> None:
    assert run_tests(sandbox, "def double(x): return x + x", TESTS).passed


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("import pytest\n@pytest.mark.parametrize('n', [1])\ndef test_a(n): assert double(n) == 2", "import pytest"),
        ("def test_a(tmp_path): assert double(1) == 2", "asks for tmp_path"),
        ("x = double(1)", "nothing in them ran"),
        ("assert double(2) == 4\nreturn", "are no Python"),
    ],
)
def test_tests_that_tell_no_solution_from_another_are_the_data_sets_fault(sandbox: Sandbox, tests: str, why: str) -> None:
    with pytest.raises(DatasetError, match=f"the tests cannot be used, .*{why}"):
        run_tests(sandbox, "def double(x): return x + x", tests)


@pytest.mark.parametrize(
    "solution",
    [
        "def double(x): return 4",
        "def double(x",
        "",
        "print('passed'); print('OK'); double = lambda x: print('passed')",
        "import os\nfor fd in range(1, 64):\n    try: os.write(fd, b'passed')\n    except OSError: pass",
        "import sys\nsys.exit(0)",
        "import os\ndef double(x): os._exit(0)",
        "class Yes:\n    def __eq__(self, other): return True\ndef double(x): return Yes()",
        "class Four(int):\n    def __eq__(self, other): return True\ndef double(x): return Four()",
        "def test_small(): pass\ndef test_large(): pass\ndef double(x): return None",
        "import sys\nsys.modules['rheostat.data.sandbox.plain'].dumps = lambda *_: '{\"value\": true}'\ndef double(x): return 4",
        "import builtins, unittest\nbuiltins.AssertionError = 1\nunittest.TestCase.assertEqual = lambda *_: None\ndef double(x): return 4",
        "def double(x): raise SystemExit(0)",
        "def double(x): return 'x' * 10**7",
        "import json\njson.dumps = lambda *_: 'null'\ndouble = 1",
    ],
    ids=[
        "wrong", "no Python", "nothing", "prints the mark", "writes everywhere", "exits", "exits when called", "equals everything",
        "a number that equals everything", "brings its own tests", "patches the codec", "patches the frameworks", "raises exit",
        "floods", "breaks json",
    ],
)  # fmt: skip
def test_nothing_but_solving_passes(sandbox: Sandbox, solution: str) -> None:
    verdict = run_tests(sandbox, solution, TESTS)

    assert not verdict.passed
    assert verdict.reason


def test_a_solution_cannot_change_what_the_tests_mean(sandbox: Sandbox) -> None:
    sly = "def abs(x): return 0\nclass math:\n    isclose = staticmethod(lambda *_: True)\ndef half(x): return x"

    assert not run_tests(sandbox, sly, "assert abs(half(4) - 2) < 1e-9").passed
    assert not run_tests(sandbox, sly, "assert math.isclose(half(4), 2)").passed


def test_objects_can_be_used_over_the_fence_but_not_believed(sandbox: Sandbox) -> None:
    stack = """
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item); return self
    def __len__(self): return len(self.items)
    def __getitem__(self, at): return self.items[at]
    def __contains__(self, item): return True
    def pop(self):
        if not self.items: raise IndexError("empty")
        return self.items.pop()
def sort_in_place(items, seen): items.sort(); seen.add(len(items))
"""
    tests = """
import unittest
class StackTest(unittest.TestCase):
    def test_it_holds_what_was_pushed(self):
        stack = Stack()
        stack.push(3).push("x")
        stack.limit = 5
        self.assertEqual((len(stack), stack[0], stack.items, stack.limit), (2, 3, [3, "x"], 5))
        self.assertRaises(TypeError, lambda: 7 in stack)
        self.assertRaises(TypeError, bool, stack.push)
    def test_popping_nothing_is_an_error(self):
        self.assertRaises(IndexError, Stack().pop)
    def test_changed_arguments_come_back(self):
        items, seen = [3, 1, 2], set()
        sort_in_place(items, seen)
        self.assertEqual((items, seen), ([1, 2, 3], {3}))
"""
    assert run_tests(sandbox, stack, tests).passed
    assert "1 tests" in run_tests(sandbox, "", "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.fail()").reason


def test_tests_take_only_the_names_they_are_given(sandbox: Sandbox) -> None:
    solution = "def wanted(x): return x\ndef helper(x): return x"

    assert run_tests(sandbox, solution, "assert wanted(1) == 1", names=["wanted"]).passed
    assert "NameError" in run_tests(sandbox, solution, "assert helper(1) == 1", names=["wanted"]).reason


@pytest.mark.parametrize(
    "tests",
    [
        "class TestDouble:\n    def test_small(self): assert double(2) == 4",
        "async def test_small(): assert double(2) == 4",
        "def test_small(): assert double(2) == 4\nif __name__ == '__main__':\n    import pytest\n    pytest.main()",
    ],
    ids=["class", "coroutine", "with a main program of pytest"],
)
def test_tests_in_the_style_of_pytest_are_run(sandbox: Sandbox, tests: str) -> None:
    assert run_tests(sandbox, "def double(x): return x + x", tests).passed
    assert "AssertionError" in run_tests(sandbox, "def double(x): return 5", tests).reason


def test_tests_that_check_nothing_are_an_error_and_not_passed(sandbox: Sandbox) -> None:
    with pytest.raises(DatasetError, match="nothing in them ran"):
        run_tests(sandbox, "def double(x): return 5", "class Small:\n    def check(self): assert double(2) == 4")


def test_a_solution_may_define_data_classes_with_postponed_annotations(sandbox: Sandbox) -> None:
    point = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int = 0"

    assert run_tests(sandbox, point, "assert Point(3).x == 3").passed
    assert run_cases(sandbox, f"{point}\nprint(Point(3).x)", [("", "3")]).passed


def test_a_solution_that_never_ends_fails_in_time() -> None:
    quick = Sandbox(Limits(wall_s=2.0, cpu_s=30), allow_weak=True)

    assert run_tests(quick, "while True: pass", TESTS).reason == "no verdict in time"


def test_a_program_is_compared_by_what_it_prints(sandbox: Sandbox) -> None:
    cases = [("1 2\n", "3\n"), ("5 5", "10")]

    assert run_cases(sandbox, "a, b = map(int, input().split())\nprint(a + b, '')", cases).passed
    assert "printed" in run_cases(sandbox, "print(3)", cases).reason
    assert "status 1" in run_cases(sandbox, "raise ValueError", cases).reason


@pytest.mark.parametrize("end", ["exit()", "quit()", "exit(0)", "import sys; sys.exit()"])
def test_a_program_may_end_itself(sandbox: Sandbox, end: str) -> None:
    assert run_cases(sandbox, f"print(input())\n{end}\nprint('more')", [("abc", "abc")]).passed
    assert "status 3" in run_cases(sandbox, "exit(3)", [("", "")]).reason


def test_what_a_program_says_on_standard_error_is_not_its_answer(sandbox: Sandbox) -> None:
    program = "import sys\nprint('thinking', file=sys.stderr)\nprint(open(0).read()[::-1])"

    assert run_cases(sandbox, program, [("abc", "cba")]).passed


def test_a_program_that_never_answers_fails() -> None:
    quick = Sandbox(Limits(wall_s=1.0), allow_weak=True)

    assert "no answer within 1 s" in run_cases(quick, "import time; time.sleep(9)", [("", "")]).reason


def test_tests_are_not_run_where_a_solution_could_reach_into_them(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "isolation", "process")
    monkeypatch.setattr(exam.os, "getuid", lambda: 1000)

    with pytest.raises(SandboxError, match="reach into the examiner"):
        run_tests(sandbox, "", TESTS)

"""Examiner and solver joined by pipes in one process, with code that needs no fence; test_exam.py has the hostile kind."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from rheostat.data.sandbox import examiner, program, solver, suite

NONCE = "0123"
SOLUTION = """
limit = 3
class Box:
    def __init__(self, *items): self.items = list(items)
    def __len__(self): return len(self.items)
    def __getitem__(self, at): return self.items[at]
    def __setitem__(self, at, item): self.items[at] = item
    def share(self): return self.items
def fill(items, mapping, seen):
    items.append(1); mapping["a"] = 1; seen.add(1)
def fail(kind):
    raise {"value": ValueError, "own": type("Own", (Exception,), {})}[kind]("no")
def same(thing): return thing
def count(n):
    for number in range(n): yield number
class limits: pass
"""


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Forgets the modules that guests make: a cell dies with its own."""
    mine = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = mine
    for name in ("solution", suite.MODULE):
        sys.modules.pop(name, None)


def examined(tests: str, *, solution: str = SOLUTION, names: tuple[str, ...] = ()) -> str:
    """What the examiner writes."""
    (asks, asked), (answers, answered), (verdict, written) = os.pipe(), os.pipe(), os.pipe()
    solving = threading.Thread(target=solver.main, args=(solution, asks, answered))
    solving.start()
    examiner.main(tests, list(names), asked, answers, written, NONCE)
    solving.join()
    with os.fdopen(verdict) as paper:
        return paper.read()


@pytest.mark.parametrize(
    "tests",
    [
        "assert limit == 3",
        "box = Box(1, 2)\nassert (len(box), box[1], box.items) == (2, 2, [1, 2])",
        "box = Box(1)\nbox[0] = 5\nbox.colour = 'red'\nassert (box[0], box.colour) == (5, 'red')",
        "items, mapping, seen = [], {}, set()\nfill(items, mapping, seen)\nassert (items, mapping, seen) == ([1], {'a': 1}, {1})",
        "try:\n    fail('value')\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False",
        "box = Box(1)\nassert same(box)[0] == 1",
        "assert (list(count(3)), sorted(count(2), reverse=True), sum(count(0))) == ([0, 1, 2], [1, 0], 0)",
        "steps = count(2)\nassert (next(steps), next(steps), next(steps, None)) == (0, 1, None)",
        "assert [box[0] for box in map(Box, count(2))] == [0, 1]",
        "assert list(Box(1, 2)) == [1, 2]",
        "def test_it(): assert same({(1, 'x'): [b'y', 2j, None]}) == {(1, 'x'): [b'y', 2j, None]}",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(same(1), 1)",
    ],
)
def test_what_a_solution_does_can_be_tested_over_pipes(tests: str) -> None:
    assert examined(tests) == NONCE


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert same(1) == 2", "AssertionError"),
        ("assert Box(1) == Box(1)", "AssertionError"),
        ("bool(Box(1))", "TypeError"),
        ("1 in Box(1)", "TypeError"),
        ("list(limits())", "TypeError"),
        ("assert list(count(3)) == [0, 1]", "AssertionError"),
        ("next(count(0))", "StopIteration"),
        ("1 in count(3)", "TypeError"),
        ("same(lambda: 1)", "only plain values"),
        ("fail('own')", "Own: no"),
        ("missing(1)", "NameError"),
        ("Box(1).__class__.__name__ == 'Box' or Box(1).__secret__", "AttributeError"),
        ("def test_it(): raise KeyError('x')", "KeyError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.fail()", "1 of 1 tests of T failed"),
    ],
)
def test_what_fails_is_said(tests: str, reason: str) -> None:
    said = examined(tests)

    assert said.startswith("failed ")
    assert reason in said


def test_only_the_names_that_were_listed_are_given() -> None:
    assert "NameError" in examined("assert limit == 3", names=("Box",))
    assert examined("assert limit == 3", names=("limit",)) == NONCE


def test_names_of_built_ins_and_modules_keep_their_meaning() -> None:
    assert examined("import math\nassert (abs(-1), math.floor(1.5)) == (1, 1)", solution="abs = math = None\ndef f(): pass") == NONCE


@pytest.mark.parametrize(
    "tests",
    [
        "class TestBox:\n    def test_a(self): assert limit == 4",
        "class TestBox:\n    def setup_method(self, method): self.box = Box(1)\n    def test_a(self): assert self.box[0] == 2",
        "class TestBox:\n    @classmethod\n    def setup_class(cls): cls.box = Box(1)\n    def test_a(self): assert self.box[0] == 2",
        "class TestBox:\n    async def test_a(self): assert limit == 4",
        "async def test_a(): assert limit == 4",
        "async def helped(): return limit\nasync def test_a(): assert await helped() == 4",
    ],
)
def test_classes_and_coroutines_are_tests_too(tests: str) -> None:
    assert "AssertionError" in examined(tests)
    assert examined(tests.replace("== 4", "== 3").replace("== 2", "== 1")) == NONCE


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "box = Box(1)",
        "def check(): assert limit == 4",
        "class Checks:\n    def test_a(self): assert limit == 4",
        "class TestBox:\n    def check(self): assert limit == 4",
        "def test_a(): yield limit == 4",
        "async def test_a():\n    assert limit == 4\n    yield",
        "if __name__ == '__main__':\n    assert limit == 4",
        "import unittest\nclass T(unittest.TestCase):\n    def check(self): self.fail()",
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('later')\n    def test_a(self): self.fail()",
        "from unittest import TestCase",
        "print(limit)",
    ],
)
def test_tests_that_check_nothing_are_unusable(tests: str) -> None:
    assert examined(tests).startswith("unusable ")


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("import no_such_package.raises as raises\ndef test_a(): assert limit == 3", "import no_such_package"),
        ("from no_such_package import thing\nassert limit == 3", "import no_such_package"),
        ("def test_a():\n    import no_such_package\n    assert limit == 3", "import no_such_package"),
        ("def test_a(tmp_path): assert limit == 3", "asks for tmp_path"),
        ("class TestBox:\n    def test_a(self, n, m): assert limit == 3", "asks for n, m"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_a(self, n): self.assertEqual(limit, n)", "asks for n"),
        ("async def test_a(n): assert limit == 3", "asks for n"),
        ("assert limit ==", "no Python"),
        ("assert '\0'", "no Python"),
    ],
)
def test_tests_that_no_solution_could_pass_are_unusable(tests: str, why: str) -> None:
    said = examined(tests)
    assert said.startswith("unusable ")
    assert why in said


@pytest.mark.parametrize(
    "tests",
    [
        "try:\n    import no_such_package\nexcept ImportError:\n    pass\nassert limit == 3",
        "def test_a(n=3, *more, **named): assert limit == n",
        "from functools import partial\ndef check(n): assert limit == n\ntest_a = partial(check, 3)",
        "from unittest import TestCase, mock\nclass T(TestCase):\n    @mock.patch('os.getcwd')\n    def test_a(self, cwd): assert cwd",
        "from unittest import mock\n@mock.patch('os.getcwd')\ndef test_a(cwd): assert limit == 3",
        "import os.path, json, unittest.mock\nfrom collections import abc\nassert limit == 3",
    ],
)
def test_what_may_be_missing_or_left_out_is_no_reason_to_refuse(tests: str) -> None:
    assert examined(tests) == NONCE


def test_a_solution_that_misses_a_package_fails_and_does_not_spoil_the_tests() -> None:
    solution = "def add(a, b):\n    import no_such_package\n    return a + b"
    assert examined("assert add(1, 2) == 3", solution=solution).startswith("failed ModuleNotFoundError")


@pytest.mark.parametrize(
    "tests",
    [
        "for n in range(3):\n    assert limit == 3",
        "if limit != 3: raise ValueError",
        "def check(box): assert box(1)[0] == 1\ncheck(Box)",
        "import unittest\nunittest.TestCase().assertEqual(limit, 3)",
    ],
)
def test_statements_that_check_need_no_test_function(tests: str) -> None:
    assert examined(tests) == NONCE


DATA_CLASS = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int = 3"


def test_data_classes_with_postponed_annotations_can_be_defined_on_both_sides() -> None:
    assert examined("assert Point().x == 3", solution=DATA_CLASS) == NONCE
    assert examined(f"{DATA_CLASS}\nassert Point().x == limit") == NONCE


@pytest.fixture
def given_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A descriptor with an input for `program.main`, which takes the place of ours."""
    monkeypatch.setattr("sys.stdin", None)
    for name in ("exit", "quit"):
        monkeypatch.setattr(f"builtins.{name}", None, raising=False)
    ours, given = os.dup(0), os.memfd_create("given")
    os.pwrite(given, b"abc\n", 0)
    yield given
    os.dup2(ours, 0)
    os.close(ours)


@pytest.mark.parametrize("read", ["input()", "open(0, closefd=False).readline().strip()", "__import__('os').read(0, 3).decode()"])
def test_a_program_reads_its_input_as_a_main_module(read: str, given_input: int, capsys: pytest.CaptureFixture[str]) -> None:
    program.main(f"if __name__ == '__main__': print({read}[::-1])", given_input)

    assert capsys.readouterr().out == "cba\n"

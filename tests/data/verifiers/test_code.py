from __future__ import annotations

import time

import pytest

from rheostat.data.errors import ConfigError, DatasetError
from rheostat.data.sandbox import Limits, Sandbox
from rheostat.data.verifiers import verifier
from rheostat.data.verifiers.code import CodeReference, PythonTests, code_in, code_reference

REPLY = "Sure:\n```python\ndef twice(x):\n    return 2 * x\n```\nThat is it."


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(Limits(wall_s=30.0), allow_weak=True)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("assert twice(4) == 8", 1.0),
        (str(CodeReference(tests="assert twice(4) == 9", names=("twice",))), 0.0),
        (str(CodeReference(cases=(("", ""),))), 1.0),
        (str(CodeReference(cases=(("", "8"),))), 0.0),
    ],
)
def test_code_is_right_when_all_its_tests_pass(sandbox: Sandbox, reference: str, expected: float) -> None:
    assert verifier("python_tests", sandbox=sandbox).verify("?", REPLY, reference, "text") == expected


def test_without_a_sandbox_nothing_is_run() -> None:
    with pytest.raises(ConfigError, match=r"sandbox\.enabled"):
        verifier("python_tests")
    with pytest.raises(ConfigError, match=r"sandbox\.enabled"):
        PythonTests().verify("?", REPLY, "assert twice(1) == 2", "text")


@pytest.mark.parametrize("reference", ["", "  \n", '{"tests": ""}', '{"tets": "assert 1"}'])
def test_a_reference_without_tests_is_refused(reference: str) -> None:
    with pytest.raises(DatasetError, match=r"holds no tests|no reference of python_tests"):
        code_reference(reference)


def test_a_reference_can_be_read_back() -> None:
    wanted = CodeReference(tests="assert f(1)", names=("f",), cases=(("1", "2"),))

    assert code_reference(str(wanted)) == wanted


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("x = 1", "x = 1"),
        ("```\na\n```\n```py\nb\n```", "b\n"),
        ("```python3\na\n```\nIt prints:\n```\n5\n```", "a\n"),
        ("```Python title=f.py\na\n```\nRun it:\n```bash\npython f.py\n```", "a\n"),
        ("```\na\n```\n```text\n5\n```", "a\n"),
        ("First:\n```python\na\n```\nBetter:\n``` python\nb\n```", "b\n"),
        ("```js\na\n```", "a\n"),
        ("Cut off:\n```python\na\nb", "a\nb"),
        ("```python\n\n```", "\n"),
        ("With ```x``` as\n```python\na\n```", "a\n"),
        ("````{python3}\na\n````", "a\n"),
    ],
)
def test_the_last_block_of_python_is_the_code_of_a_reply(reply: str, code: str) -> None:
    assert code_in(reply) == code


@pytest.mark.parametrize("unit", ["```", "```\n", "```a", "`", "```python\na\n", "\n```a"])
def test_a_hostile_reply_costs_little(unit: str) -> None:
    started = time.perf_counter()
    code_in(unit * 100_000)
    assert time.perf_counter() - started < 2.0  # anything worse than linear takes minutes


def test_no_reply_is_wrong() -> None:
    assert PythonTests().verify("?", None, "assert 1", "text") == 0.0

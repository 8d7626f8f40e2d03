from __future__ import annotations

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


def test_the_last_block_is_the_code_and_a_reply_without_one_is_code_as_a_whole() -> None:
    assert code_in("```\na\n```\n```py\nb\n```") == "b\n"
    assert code_in("x = 1") == "x = 1"


def test_no_reply_is_wrong() -> None:
    assert PythonTests().verify("?", None, "assert 1", "text") == 0.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.policies.simulated import OracleSteps, Process, read_ways
from tests.policies import make
from tests.policies.make_process import accuracy, solve


@given(st.integers(1, 4), st.integers(1, 4))
def test_every_path_has_an_answer_of_its_own_and_the_values_agree(depth, branch):
    process = Process(depth=depth, branch=branch)
    paths = [()]
    for _ in range(depth):
        paths = [(*path, way) for path in paths for way in range(branch)]
    assert len({process.answer(path) for path in paths}) == branch**depth
    assert process.value(()) == pytest.approx(sum(map(process.worth, paths)) / len(paths))
    assert process.answer((0,) * depth) == process.right


async def test_samples_are_right_as_often_as_the_process_says():
    process = Process(depth=2, branch=2)
    results = await solve("m/self_consistency(k=64)@9999", process, n=4)
    answers = [each.answer for result in results for each in result.evidence.candidates]
    assert answers.count(process.right) / len(answers) == pytest.approx(process.value(()), abs=0.1)


async def test_the_oracle_knows_the_value_of_every_beginning():
    process = Process(depth=2, branch=2)
    oracle = OracleSteps(process)
    assert await oracle.steps(make.question(), ("step 0\n", "step 0\n"), make.no_call) == (0.5, 1.0)
    assert await oracle.score(make.question(), make.candidate("1"), make.no_call) == process.value(())
    assert read_ways("step 2\nstep 0\nThe answer is 3.") == (2, 0)


async def test_a_process_without_choice_is_always_right():
    process = Process(depth=2, branch=1)
    assert accuracy(await solve("m/cot@99", process, n=3), process) == 1.0

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.schema import Action
from rheostat.policies.beam import MODES, Shape, keep_best, keep_best_of_each, keep_by_share
from rheostat.policies.fake import FakeBackend
from rheostat.policies.process import Scored
from rheostat.policies.run import run_action
from rheostat.policies.simulated import Process
from rheostat.policies.steps import Path
from tests.policies import make
from tests.policies.make_process import accuracy, solve

PROCESS = Process(depth=3, branch=3)
pools = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20).map(
    lambda drawn: [Scored(Path(node=at, ended=ended, subtree=subtree), value) for at, (value, ended, subtree) in enumerate(drawn)]
)
shapes = st.builds(Shape, st.integers(1, 5), st.integers(1, 5))


@pytest.mark.parametrize("mode", MODES)
async def test_with_an_oracle_it_reaches_what_as_many_whole_samples_hold(mode):
    searched = await solve(f"m/beam(width=2,expand=4,mode={mode})@2000", PROCESS, n=40)
    sampled = await solve("m/self_consistency(k=8)@2000", PROCESS, n=40)
    any_of_8 = sum(any(each.answer == PROCESS.right for each in result.evidence.candidates) for result in sampled) / 40
    assert accuracy(searched, PROCESS) >= any_of_8 > 0.1


async def test_without_knowing_the_steps_it_is_no_better_than_chance():
    searched = await solve("m/beam(width=2,expand=4,by=logprob)@2000", PROCESS, n=40)
    assert accuracy(searched, PROCESS) < 0.4


async def test_the_tree_and_the_raw_scores_of_the_steps_are_in_the_evidence():
    (result,) = await solve("m/beam(width=2,expand=3)@2000", PROCESS, n=1)
    steps = result.evidence.steps
    assert all(step.parent < step.index for step in steps)
    assert {step.state for step in steps} <= {"kept", "dropped", "ended"}
    assert all(step.score is not None for step in steps if step.state != "dropped")
    chain = result.candidate
    assert len(chain.step_scores) == PROCESS.depth + 1
    assert chain.step_scores[-1] == chain.score


async def test_a_step_drawn_twice_takes_one_place():
    (result,) = await solve("m/beam(width=4,expand=8,depth=1)@2000", Process(depth=1, branch=2), n=1)
    texts = [each.text for each in result.evidence.candidates]
    assert len(texts) == len(set(texts)) == 2


@settings(max_examples=40, deadline=None)
@given(pools, shapes)
def test_the_best_are_kept_and_those_that_ended_among_them_are_not_expanded(pool, shape):
    kept = keep_best(pool, shape)
    chosen = [*(wish.path.node for wish in kept.wishes), *(each.path.node for each in kept.ended)]
    worst = min(pool[node].value for node in chosen)
    assert len(chosen) == min(shape.width, len(pool))
    assert all(each.value <= worst for each in pool if each.path.node not in chosen)
    assert all(each.path.ended for each in kept.ended)
    assert all(wish.n == shape.expand and not wish.path.ended for wish in kept.wishes)


@settings(max_examples=40, deadline=None)
@given(pools, shapes)
def test_every_subtree_keeps_exactly_its_best(pool, shape):
    kept = keep_best_of_each(pool, shape)
    chosen = [pool[node] for node in [*(w.path.node for w in kept.wishes), *(e.path.node for e in kept.ended)]]
    assert sorted(each.path.subtree for each in chosen) == sorted({each.path.subtree for each in pool})
    for each in chosen:
        assert each.value == max(other.value for other in pool if other.path.subtree == each.path.subtree)


@settings(max_examples=40, deadline=None)
@given(pools, shapes)
def test_shares_never_exceed_the_width_and_better_paths_get_no_less(pool, shape):
    kept = keep_by_share(pool, shape)
    assert sum(wish.n for wish in kept.wishes) <= max(0, shape.width * shape.expand - len(kept.ended))
    values = [pool[wish.path.node].value for wish in kept.wishes]
    assert values == sorted(values, reverse=True)
    assert [wish.n for wish in kept.wishes[:-1]] == sorted((wish.n for wish in kept.wishes[:-1]), reverse=True)


async def test_a_level_that_fails_leaves_the_paths_before_it():
    backend = FakeBackend(faults=["ok", "error"])
    spelling = "m/beam(width=1,expand=2,by=logprob,step_tokens=8)@900"
    result = await run_action(Action.parse(spelling), make.question(), {"m": backend}, kind="number", seed=1)
    assert result.stop_reason == "upstream_failed"
    assert result.text

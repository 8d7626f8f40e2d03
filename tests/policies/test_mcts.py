import pytest

from rheostat.policies.mcts import DRY_AFTER, Node, mean_value
from rheostat.policies.simulated import Process
from rheostat.policies.steps import Path
from tests.policies.make_process import accuracy, solve


def share_of_first_ways(ways):
    return ways.count(0) / len(ways)


LEAVES = Process(depth=4, branch=3, worth=share_of_first_ways)


async def test_more_simulations_find_the_best_leaf_more_often():
    found = [accuracy(await solve(f"m/mcts(sims={sims},by=prm,c=0.3)@9999", LEAVES, n=30), LEAVES) for sims in (2, 16, 64)]
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.8


async def test_it_finds_more_than_as_many_samples_chosen_by_the_same_scores():
    searched = accuracy(await solve("m/mcts(sims=24,by=prm,c=0.3)@9999", LEAVES, n=30), LEAVES)
    sampled = accuracy(await solve("m/best_of_n(n=24,by=prm)@9999", LEAVES, n=30), LEAVES)
    assert searched > sampled


async def test_a_tree_that_was_seen_whole_ends_the_search():
    process = Process(depth=1, branch=1, worth=lambda ways: 0.5)
    (result,) = await solve("m/mcts(sims=50,by=prm)@9999", process, n=1)
    assert result.stop_reason == "complete"
    assert len(result.evidence.candidates) < 50


async def test_a_perfect_rollout_ends_the_search():
    process = Process(depth=2, branch=1)
    (result,) = await solve("m/mcts(sims=50,by=prm)@9999", process, n=1)
    assert (result.stop_reason, len(result.evidence.candidates)) == ("perfect", 1)


async def test_every_visit_of_a_step_was_one_of_the_step_before():
    (result,) = await solve("m/mcts(sims=12,by=agreement)@9999", LEAVES, n=1)
    steps = result.evidence.steps
    # A rollout from the very beginning, where no new step was drawn, goes through no step.
    assert 0 < sum(step.visits for step in steps if step.parent == -1) <= len(result.evidence.candidates)
    assert all(step.visits >= sum(child.visits for child in steps if child.parent == step.index) for step in steps)


async def test_the_vote_weighs_answers_by_their_value():
    (result,) = await solve("m/mcts(sims=12,by=prm,pick=vote)@9999", LEAVES, n=1)
    assert result.evidence.why.startswith("vote of")


def test_a_rollout_counts_at_every_node_above_it():
    root = Node(Path())
    child = Node(Path(ended=True), root)
    root.children, root.misses = [child], DRY_AFTER
    assert not root.exhausted
    child.back_up(0)
    assert (root.rollouts, child.depth, root.exhausted) == ([0], 1, True)
    assert mean_value(root, [0.25]) == pytest.approx(0.25)

"""Where nothing pays is told so, and the best of many actions is not taken for better than it is."""

from __future__ import annotations

import numpy as np

from rheostat.training.sweep_findings import ALL, findings, told
from rheostat.training.sweep_grid import Grid

CHAIN, VOTE, ORACLE = "m/cot@256", "m/self_consistency(k=8)@1536", "m/best_of_n(by=verifier,n=8)@3072"
N = 200


def held(actions: tuple[str, ...], reward: np.ndarray, cost: list[float]) -> Grid:
    keys = tuple((f"d/{family}", f"q{i:03}") for family in ("first", "second") for i in range(len(reward) // 2))
    return Grid(model="m", actions=actions, keys=keys, reward=reward, cost=np.tile(cost, (len(reward), 1)))


def luck(chances: list[float], seed: int = 0) -> np.ndarray:
    return np.array((np.random.default_rng(seed).random((N, 1)) < np.array(chances)[None]), dtype=float)


def test_a_vote_that_is_better_pays_and_one_that_is_not_is_named_among_the_families_where_nothing_does() -> None:
    reward = np.vstack([luck([0.4, 0.8]), luck([0.5, 0.5], seed=1)])
    first, second, whole = findings(held((CHAIN, VOTE), reward, [1.0, 8.0]))

    assert (first.family, first.pays, first.chosen) == ("first", True, ("self_consistency(k=8)",))
    assert (second.family, second.pays) == ("second", False)
    assert (whole.family, whole.pays) == (ALL, True)
    assert "Nothing clearly pays on second." in told([first, second, whole])


def test_families_too_small_to_choose_and_to_judge_on_are_told_of_together() -> None:
    few = findings(held((CHAIN, VOTE), luck([0.2, 0.9])[:30], [1.0, 8.0]))

    assert [each.family for each in few] == [ALL]
    assert "Something clearly pays." in told(few)
    assert "Nothing clearly pays." in told(findings(held((CHAIN, VOTE), luck([0.5, 0.5])[:30], [1.0, 8.0])))


def test_the_best_of_many_that_are_alike_adds_nothing_on_average() -> None:
    rng = np.random.default_rng(0)
    actions = (CHAIN, *(f"m/self_consistency(k={k})@9" for k in range(2, 30)))
    gains = [
        findings(held(actions, (rng.random((2 * N, len(actions))) < 0.5).astype(float), [1.0] + [2.0] * 28))[-1].gain.value
        for _ in range(20)
    ]

    assert abs(np.mean(gains)) < 0.02


def test_what_asks_the_reference_or_costs_no_more_than_the_chain_is_not_among_the_best() -> None:
    reward = np.vstack([luck([0.2, 0.9, 0.2, 1.0])] * 2)
    found = findings(held((CHAIN, "m/direct@64", VOTE, ORACLE), reward, [1.0, 0.5, 8.0, 16.0]))[-1]

    assert found.chosen == ("self_consistency(k=8)",)
    assert not found.pays
    assert found.perfect is not None
    assert found.perfect.low > 0.5


def test_nothing_is_told_without_a_chain_or_without_anything_dearer() -> None:
    assert told(findings(held((VOTE,), luck([0.5]), [8.0]))) == ""
    assert findings(held((CHAIN, "m/direct@64"), luck([0.5, 0.1]), [1.0, 0.5])) == []

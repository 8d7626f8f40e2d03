from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rheostat.data.errors import DatasetError
from rheostat.training.contest import MARGIN, Standing, against, contest, routed
from tests.training.make import bundle, table


def standing(utility=0.0, reward=0.5, cost=1.0, *, n=200, seed=0, noise=0.05):
    rng = np.random.default_rng(seed)
    return Standing(*(mean + noise * rng.standard_normal(n) for mean in (utility, reward, cost)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_policy_never_beats_itself(seed):
    one = standing(seed=seed)
    assert not against(one, one, "itself").won


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_of_two_policies_at_most_one_is_better(seed, gap):
    a, b = standing(gap, seed=seed), standing(seed=seed + 1)
    assert against(a, b, "b").better
    assert not against(b, a, "a").better


def test_a_cheaper_policy_wins_at_equal_accuracy_and_not_when_it_loses_accuracy():
    dear = standing(cost=1.0, n=1000)
    assert against(standing(utility=-0.0, cost=0.5, n=1000), dear, "dear").cheaper
    assert not against(standing(reward=0.5 - 3 * MARGIN, cost=0.5, n=1000), dear, "dear").won
    assert not against(standing(cost=1.5, n=1000), dear, "dear").won


def test_one_that_is_only_cheaper_is_never_called_better():
    dear = standing(cost=1.0, n=1000)
    cheaper, better = against(standing(cost=0.5, n=1000), dear, "dear"), against(standing(0.2, n=1000), dear, "dear")
    assert cheaper.utility.low <= 0 < cheaper.utility.high
    assert cheaper.shown == "cheaper than dear and less accurate by 1 point at most"
    assert better.shown == "more useful than dear"
    assert against(dear, dear, "dear").shown.startswith("not shown to be more useful than dear, nor cheaper")


@pytest.mark.parametrize(("n", "enough"), [(5, False), (50, False), (300, False), (1000, True)])
def test_policies_that_agree_on_a_few_queries_are_not_shown_to_be_equally_accurate(n, enough):
    same = np.full(n, 0.5)
    assert against(Standing(same, same, same / 2), Standing(same, same, same), "dear").cheaper is enough


def test_a_worse_policy_seldom_wins_however_few_queries_there_are():
    rng = np.random.default_rng(0)
    for n in (5, 20, 50, 400):
        won = []
        for _ in range(200):
            worse = np.where(rng.random(n) < 0.03, 0.0, 1.0)  # wrong on 3 of 100 where the other is right, and cheaper
            won.append(
                against(Standing(worse - 0.9, worse, np.full(n, 0.9)), Standing(np.zeros(n), np.ones(n), np.ones(n)), "other").cheaper
            )
        assert np.mean(won) <= 0.05, n


def test_intervals_of_no_difference_cover_zero_about_as_often_as_they_say():
    covered = [against(standing(seed=2 * s), standing(seed=2 * s + 1), "other").utility for s in range(200)]
    assert np.mean([interval.low <= 0 <= interval.high for interval in covered]) > 0.9


def test_a_router_that_knows_beats_the_best_fixed_action_and_one_that_does_not(tmp_path):
    wise, blind = bundle(tmp_path / "a", knows=True), bundle(tmp_path / "b", knows=False)
    results = contest(wise, blind, table(), {})
    assert [result.reference for result in results] == ["the best fixed action", "the champion"]
    assert all(result.won for result in results)
    assert not any(result.won for result in contest(blind, wise, table(), {}))


def test_a_champion_of_actions_that_the_newer_log_lacks_is_told_with_what_to_do(tmp_path):
    known = bundle(tmp_path / "known", knows=True)
    longer = replace(known, actions=tuple(structs.replace(action, max_tokens=2 * action.max_tokens) for action in known.actions))
    with pytest.raises(DatasetError, match=r"champion may take .* no outcomes .* promote with --force"):
        contest(known, longer, table(), {})


def test_routing_keeps_the_accuracy_of_the_best_action_and_spends_less(tmp_path):
    there = routed(bundle(tmp_path, knows=True), table(), {}, scale_usd=1e-4, target=0.9)
    assert there.reward.mean() >= 0.9
    assert there.cost_usd.mean() < 0.6 * 1e-4


def test_a_comparison_reads_as_a_sentence_with_its_numbers():
    text = str(against(standing(0.1, 0.6, 0.5), standing(), "the champion"))
    assert text.startswith("utility over the champion +0.1")
    assert "95% interval" in text
    assert "points" in text

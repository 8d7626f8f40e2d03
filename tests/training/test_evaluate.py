"""Evaluation: baselines, intervals and the comparison with the best fixed action."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.router.rules import multiplier_grid
from rheostat.training import baselines
from rheostat.training import evaluate as evaluate_module
from rheostat.training.baselines import Costed
from rheostat.training.bootstrap import Interval
from rheostat.training.evaluation import Evaluation
from rheostat.training.judged import judge
from tests.training.fitting import PRICES, WordEncoder, fitted


def truth_of(seed: int, n: int = 80, a: int = 4) -> Costed:
    rng = np.random.default_rng(seed)
    tokens = rng.uniform(1, 50, (n, a)) * np.arange(1, a + 1)
    return Costed(rng.random((n, a)), tokens, tokens / 1e6)


@given(st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_nothing_beats_the_oracle_at_its_own_price(seed):
    truth = truth_of(seed)
    scale = float(truth.cost_usd.mean())
    guess = np.random.default_rng(seed + 1).random(truth.reward.shape)
    best = baselines.policy_utility(truth.reward, truth.cost_usd, truth, scale_usd=scale)
    other = baselines.policy_utility(guess, truth.cost_usd, truth, scale_usd=scale)
    assert (best >= other - 1e-12).all()
    assert best.mean() >= baselines.fixed_utility(truth, truth, scale_usd=scale).mean() - 1e-12


@given(st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_fixed_actions_lie_on_or_below_the_mixture_hull(seed):
    truth = truth_of(seed)
    hull = baselines.mixture_hull(truth)
    reach = np.interp(truth.cost_usd.mean(axis=0), hull[:, 0], hull[:, 2])
    assert (truth.reward.mean(axis=0) <= reach + 1e-9).all()


def test_best_fixed_prefers_the_cheaper_of_equals():
    cost = np.tile([3.0, 1.0, 2.0], (5, 1))
    assert baselines.best_fixed(Costed(np.full((5, 3), 0.5), cost, cost)) == 1


def test_constant_predictions_give_a_fixed_policy():
    truth = truth_of(0)
    p = np.tile([0.2, 0.4, 0.6, 0.8], (80, 1))
    cost = np.tile(truth.cost_usd.mean(axis=0), (80, 1))
    curve = baselines.average_rule(p, cost, truth, multiplier_grid(cost))
    assert (curve.picks == curve.picks[0]).all()


def test_evaluation_survives_json():
    evaluation = fitted().evaluation
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation


def test_metrics_are_finite_numbers():
    assert all(np.isfinite(value) for value in fitted().evaluation.metrics.values())


def test_mix_of_actions_sums_to_one_at_every_target():
    for point in fitted().evaluation.targets:
        assert sum(point.mix.values()) == pytest.approx(1.0)


def test_cost_never_falls_as_the_target_rises():
    costs = [point.cost_usd for point in fitted().evaluation.targets]
    assert all(later >= earlier * 0.98 for earlier, later in itertools.pairwise(costs))


def test_unattainable_targets_are_flagged():
    targets = fitted().evaluation.targets
    assert targets[0].feasible
    assert not targets[-1].feasible


def test_families_cover_all_test_queries():
    evaluation = fitted().evaluation
    assert sum(row.n for row in evaluation.families) == evaluation.n_test
    overall = sum(row.n * row.router_accuracy for row in evaluation.families) / evaluation.n_test
    assert overall == pytest.approx(evaluation.at_best_fixed.point.accuracy.value)


def test_judging_a_bundle_again_gives_the_same_utility():
    evaluation = fitted().evaluation
    judged = judge(fitted().bundle, fitted().test, PRICES, encoder=WordEncoder())
    again = baselines.policy_utility(judged.p_correct, judged.cost_usd, judged.truth, scale_usd=evaluation.utility_scale_usd)
    np.testing.assert_allclose(again, evaluation.utility_router)


@pytest.mark.parametrize(("ratio", "says_so"), [(Interval(2.0, 1.5, 2.5), False), (Interval(1.0, 0.9, 1.1), True)])
def test_a_gain_without_a_saving_at_the_best_fixed_accuracy_says_so(ratio, says_so):
    comparison = msgspec.structs.replace(fitted().evaluation.at_best_fixed, cost_ratio=ratio)
    gain = Interval(0.05, 0.04, 0.06)

    reason = evaluate_module._reason(True, gain, gain, comparison, "m/cot@64", np.full(100, 0.5), 40)

    assert "above zero" not in reason
    assert "chosen on 40 other queries" in reason
    assert ("no saving of cost is shown" in reason) == says_so


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.027, "50.0% of the time, 2.7 points less than that action (95% interval -5.7 to +0.3), with"),
        (0.01, ", 1.0 points more than that"),
        (-0.0004, ", as often as that action (95% interval -3.0 to +3.0), with"),
    ],
)
def test_the_reason_says_in_words_how_the_router_differs(value, words):
    there = fitted().evaluation.at_best_fixed
    there = msgspec.structs.replace(
        there,
        point=msgspec.structs.replace(there.point, accuracy=Interval(0.5, 0.4, 0.6)),
        accuracy_difference=Interval(value, value - 0.03, value + 0.03),
    )
    gain = Interval(0.1, 0.05, 0.15)
    assert words in evaluate_module._reason(True, gain, gain, there, "m/cot@64", np.full(100, 0.5), 40)


def test_of_a_log_without_tokens_the_reason_tells_of_the_cost():
    nothing = Interval(0.0, 0.0, 0.0)
    comparison = msgspec.structs.replace(fitted().evaluation.at_best_fixed, token_ratio=nothing, cost_ratio=Interval(2.0, 1.5, 2.5))
    gain = Interval(0.05, 0.04, 0.06)

    assert "with 50% of the cost." in evaluate_module._reason(True, gain, gain, comparison, "m/cot@64", np.full(100, 0.5), 40)


def test_where_more_tokens_cost_less_the_reason_names_both():
    more, less = Interval(0.98, 0.9, 1.1), Interval(1.5625, 1.2, 2.0)
    comparison = msgspec.structs.replace(fitted().evaluation.at_best_fixed, token_ratio=more, cost_ratio=less)
    assert evaluate_module._spent(comparison) == "102% of the tokens and 64% of the cost"
    assert evaluate_module._spent(msgspec.structs.replace(comparison, token_ratio=less)) == "64% of the tokens"


def test_the_router_is_asked_for_the_accuracy_of_the_best_fixed_action_where_it_was_chosen():
    evaluation = fitted().evaluation
    assert f"Asked for {evaluation.at_best_fixed.point.target:.1%}" in evaluation.reason
    assert not evaluation.reason.lower().startswith(evaluation.verdict)

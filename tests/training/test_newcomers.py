"""New actions in a fitted bundle: nothing else changes, and what was seen of them counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.schema import Action, Query
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller
from rheostat.router.features import feature_rows
from rheostat.training.fit import LEARNERS, training_set
from rheostat.training.newcomers import kinship, level_shift, with_action
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.replay import label
from tests.training.fitting import PRICES, SPELLINGS, WordEncoder, fitted, simulated_log, simulated_table

NEW = Action.parse("small/self_consistency(k=4)@768")


def rows(texts: tuple[str, ...]) -> np.ndarray:
    return feature_rows(WordEncoder().encode(list(texts)), texts)


def seen(reward: float, n: int = 200) -> OutcomeTable:
    table = label(simulated_log(), [NEW]).rows(np.arange(n))
    return replace(table, reward=np.full_like(table.reward, reward))


def extended(table: OutcomeTable | None = None) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bundle, "encoder", WordEncoder())
        return with_action(fitted().bundle, NEW, table)


def test_predictions_of_all_other_actions_stay_bit_equal():
    features = rows(simulated_table().texts[:50])
    before = fitted().bundle.predictor
    for after in (extended(), extended(table=seen(1.0))):
        np.testing.assert_array_equal(after.predictor.p_correct(features)[:, :-1], before.p_correct(features))
        np.testing.assert_array_equal(after.predictor.costs.tokens(features)[:, :-1], before.costs.tokens(features))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_learner_takes_an_action_more_and_keeps_its_word_on_the_others(name):
    data, bundle = training_set(simulated_table(400), WordEncoder()), fitted().bundle
    learner = LEARNERS[name](data, 0)
    before = replace(bundle, predictor=replace(bundle.predictor, learners=(learner,), weights=np.ones(1)))
    after, wanted = with_action(before, NEW).predictor.learners[0].logits(data.features), learner.logits(data.features)
    np.testing.assert_allclose(after[:, :-1], wanted, rtol=1e-5, atol=1e-5)
    assert np.all((after[:, -1] >= wanted.min(axis=1) - 1e-4) & (after[:, -1] <= wanted.max(axis=1) + 1e-4))


def test_without_data_it_lies_between_its_kin():
    features = rows(simulated_table().texts[:200])
    p = extended().predictor.p_correct(features).mean(axis=0)
    kin = [SPELLINGS.index(spelling) for spelling in ("small/cot@192", "small/self_consistency(k=8)@1536")]
    assert p[kin].min() - 0.1 <= p[-1] <= p[kin].max() + 0.1


def test_its_tokens_follow_its_budget():
    features = rows(simulated_table().texts[:200])
    tokens = extended().predictor.costs.tokens(features).mean(axis=0)
    votes = tokens[SPELLINGS.index("small/self_consistency(k=8)@1536")]
    assert 0.3 * votes < tokens[-1] < 0.9 * votes


def test_outcomes_of_its_own_move_it_and_more_of_them_move_it_further():
    features = rows(simulated_table().texts[:200])
    means = [extended(table=seen(1.0, n)).predictor.p_correct(features)[:, -1].mean() for n in (5, 50, 200)]
    start = extended().predictor.p_correct(features)[:, -1].mean()
    assert start < means[0] < means[1] < means[2]


def test_a_controller_can_decide_for_it_at_once_and_a_bundle_keeps_it(tmp_path):
    made = extended()
    decision = Controller(made, prices=PRICES, encoder=WordEncoder()).decide(Ask(Query.of_text("What is 1 + 1?"), forced=NEW))
    assert decision.action == str(NEW)
    assert decision.p_correct is not None
    back = Bundle.load(made.save(tmp_path / "bundle"))
    np.testing.assert_allclose(back.predictor.p_correct(back.canary), made.canary_p)


def test_the_same_strategy_of_the_same_model_with_a_near_budget_is_the_nearest_kin():
    others = [Action.parse(spelling) for spelling in SPELLINGS]
    kin = kinship(NEW, others)
    assert kin.sum() == pytest.approx(1.0)
    assert others[int(kin.argmax())] == Action.parse("small/self_consistency(k=8)@1536")


def test_no_outcomes_shift_nothing():
    assert level_shift(np.zeros(0), np.zeros(0), np.zeros(0)) == 0.0
    assert level_shift(np.zeros(1000), np.ones(1000), np.ones(1000)) > 1.0


def test_an_action_that_is_there_is_refused():
    with pytest.raises(DatasetError, match="already"):
        with_action(fitted().bundle, Action.parse(SPELLINGS[0]))


def test_more_samples_take_more_tokens_and_no_more_seconds():
    features = rows(simulated_table().texts[:50])
    bundle = fitted().bundle
    costs = with_action(bundle, Action.parse("small/self_consistency(k=32)@6144")).predictor.costs
    votes = SPELLINGS.index("small/self_consistency(k=8)@1536")
    tokens, seconds = costs.tokens(features), costs.latency_s(features)
    assert (tokens[:, -1] > tokens[:, votes]).all()
    assert (seconds[:, -1] <= seconds[:, :-1].max(axis=1) + 1e-9).all()

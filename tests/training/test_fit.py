"""Fitting on a simulated world: it must find what is there, find nothing in noise, and survive odd tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Constraints, Query
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle, check_canary
from rheostat.router.controller import Controller
from rheostat.training import learners
from rheostat.training.fit import (
    CANDIDATES,
    LEARNERS,
    STACKED,
    _shuffled_predictor,
    _usable,
    cross_fitted,
    fit,
    fit_predictor,
    simplest_of_best,
    stack_weights,
    training_set,
)
from rheostat.training.neighbours import segment_logits
from rheostat.training.split import folds, split_rows
from tests.training.fitting import PRICES, SPELLINGS, WordEncoder, fit_table, fitted, simulated_table
from tests.training.make import word_level_encoder


def test_router_finds_the_gain_that_is_there():
    evaluation = fitted().evaluation
    assert evaluation.verdict == "route"
    assert evaluation.utility_gain.low > 0
    assert evaluation.at_best_fixed.cost_ratio.low > 1
    assert evaluation.learner != "constant"


def test_shuffled_rewards_are_not_worth_routing():
    table = simulated_table()
    order = np.random.default_rng(1).permutation(len(table))
    evaluation = fit_table(replace(table, reward=table.reward[order])).evaluation
    assert evaluation.verdict == "do not route"
    assert "not shown to be above zero" in evaluation.reason


def test_predictions_follow_the_known_difficulty():
    bundle = fitted().bundle
    controller = Controller(bundle, prices=PRICES, encoder=WordEncoder())
    easy, hard = "Which is larger, 3 or 5?", "Guess the hidden number between 3514 and 5621."
    said = [controller.explain(Ask(Query.of_text(text))) for text in (easy, hard)]
    chances = [{row["action"]: row["p_correct"] for row in each["predictions"]} for each in said]
    assert chances[0][SPELLINGS[0]] > 0.85
    assert max(chances[1].values()) < 0.4


def test_same_seed_gives_the_same_bundle():
    once, again = fitted(), fit_table(simulated_table())
    assert again.evaluation == once.evaluation
    np.testing.assert_array_equal(again.bundle.canary_p, once.bundle.canary_p)


def test_bundle_round_trips_and_decides_the_same(tmp_path):
    bundle = fitted().bundle
    loaded = Bundle.load(bundle.save(tmp_path / "bundle"))
    check_canary(loaded)
    queries = [Query.of_text(text, constraints=Constraints(target_accuracy=0.6)) for text in fitted().test.texts[:20]]
    before, after = (Controller(b, prices=PRICES, encoder=WordEncoder()) for b in (bundle, loaded))
    for query in queries:
        assert before.decide(Ask(query)).action == after.decide(Ask(query)).action
        assert before.decide(Ask(query)).p_correct == after.decide(Ask(query)).p_correct
    assert loaded.metrics == bundle.metrics
    assert loaded.with_version("8").version == "8"


def test_action_that_is_always_right_or_wrong_is_learned_as_such():
    table = simulated_table()
    reward = table.reward.copy()
    reward[:, 0], reward[:, 3] = 0.0, 1.0
    bundle = fit_table(replace(table, reward=reward)).bundle
    p = bundle.predictor.p_correct(training_set(table, WordEncoder()).features)
    assert p[:, 0].max() < 0.05
    assert p[:, 3].min() > 0.95


def test_partial_rows_train_but_never_judge():
    table = simulated_table()
    weight = table.weight.copy()
    weight[::2, 1:] = 0.0
    weight[::2, 0] = 4.0
    result = fit_table(replace(table, weight=weight))
    assert (result.test.weight == 1.0).all()
    assert result.evaluation.n_test < fitted().evaluation.n_test


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda table: table.rows(np.array([], dtype=np.intp)), "no queries"),
        (lambda table: table.rows(np.array([0])), "1 queries"),
        (lambda table: table.only(table.actions[:1]), "one action is left"),
        (lambda table: replace(table, reward=np.ones_like(table.reward)), "nothing to learn"),
        (lambda table: replace(table, texts=("same",) * len(table)), "different queries"),
    ],
)
def test_tables_nothing_can_be_learned_from_are_refused(make, message):
    with pytest.raises(DatasetError, match=message):
        fit_table(make(simulated_table()))


def test_progress_ends_at_one():
    seen = []
    fit_table(simulated_table().rows(np.arange(120)), on_progress=lambda step, share: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_simplest_within_one_standard_error_is_taken():
    rng = np.random.default_rng(0)
    base = rng.normal(size=400)
    assert simplest_of_best({"simple": base, "complex": base + rng.normal(0.01, 1, 400)}) == "simple"
    assert simplest_of_best({"simple": base, "complex": base + 1}) == "complex"


def test_candidates_are_convex_weights_over_known_learners():
    for weights in CANDIDATES.values():
        assert sum(weights.values()) == pytest.approx(1.0)
        assert set(weights) <= set(LEARNERS)


def test_the_stack_weighs_every_action_in_its_own_way_and_survives_a_bundle(tmp_path):
    data = training_set(simulated_table(400), WordEncoder())
    split = split_rows(data.table.texts, seed=0)
    logits = cross_fitted(data.rows(split.train), 0, STACKED)
    weights = stack_weights(logits, data.rows(split.train), np.arange(len(split.train)))
    predictor = fit_predictor(data, split, weights, 0)
    assert np.shape(predictor.weights) == (len(STACKED), len(SPELLINGS))
    bundle = replace(fitted().bundle, predictor=predictor, canary=data.features[:4], canary_p=predictor.p_correct(data.features[:4]))
    check_canary(Bundle.load(bundle.save(tmp_path / "bundle")))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_learner_tells_actions_apart_and_does_not_look_at_cells_without_weight(name):
    data = training_set(simulated_table(400), WordEncoder())
    weight = data.table.weight.copy()
    weight[::3, 1] = 0.0
    reward = data.table.reward.copy()
    reward[::3, 1] = 1 - reward[::3, 1]
    one, other = (replace(data, table=replace(data.table, weight=weight, reward=each)) for each in (data.table.reward, reward))
    first, second = (LEARNERS[name](each, 0).logits(data.features) for each in (one, other))
    np.testing.assert_allclose(first, second)
    assert first.mean(axis=0)[0] != first.mean(axis=0)[-1]


def test_split_keeps_near_duplicates_together_and_survives_growth():
    texts = [f"question {i}" for i in range(500)]
    split = split_rows([*texts, *(f"  Question   {i} " for i in range(500))], seed=0)
    for part in split:
        assert {row + 500 for row in part if row < 500} == {row for row in part if row >= 500}
    longer = split_rows([*texts, "a new one"], seed=0)
    assert set(split_rows(texts, seed=0).test) == set(longer.test) - {500}
    assert sorted(np.concatenate(folds(texts, 3, seed=0))) == list(range(500))


def test_boosted_rows_hold_query_then_action():
    data = training_set(simulated_table().rows(np.arange(60)), WordEncoder())
    learner = learners.fit_boosted(data)
    rows = learner.rows(data.features[:2])
    assert len(rows) == 2 * len(SPELLINGS)
    np.testing.assert_allclose(rows[: len(SPELLINGS), -learner.action_features.shape[1] :], learner.action_features, rtol=1e-6)
    assert learner.logits(data.features[:2]).shape == (2, len(SPELLINGS))


def test_batched_and_single_predictions_agree():
    data = training_set(simulated_table().rows(np.arange(100)), WordEncoder())
    predictor = fitted().bundle.predictor
    together = predictor.p_correct(data.features)
    single = np.vstack([predictor.p_correct(row[None]) for row in data.features])
    np.testing.assert_allclose(together, single, atol=1e-6)


def test_expected_tokens_have_the_right_mean():
    table = simulated_table()
    data = training_set(table, WordEncoder())
    tokens = learners.fit_costs(data).tokens(data.features)
    np.testing.assert_allclose(tokens.mean(axis=0), table.tokens.mean(axis=0), rtol=0.02)


def test_a_bundle_keeps_the_lexicon_of_its_training_texts(tmp_path):
    table = simulated_table(400)
    words = sorted({word for text in table.texts for word in text.split()})
    static = word_level_encoder(tmp_path / "encoder", words)
    bundle = fit(table, encoder=static, encoder_name="static", prices=PRICES).bundle
    again = Bundle.load(bundle.save(tmp_path / "bundle"))
    texts = [*table.texts[:5], "", "words never seen"]
    assert bundle.lexicon is not None
    assert again.encoder.dimension == static.dimension + bundle.lexicon.dimension
    np.testing.assert_array_equal(again.encoder.encode(texts), bundle.encoder.encode(texts))
    check_canary(again)


def test_without_tokens_there_is_no_lexicon():
    assert fitted().bundle.lexicon is None


def test_the_shuffled_control_knows_what_actions_cost_also_beside_live_rows():
    whole = simulated_table()
    live = np.arange(0, len(whole), 2)
    cells = {name: getattr(whole, name).copy() for name in ("reward", "tokens", "weight")}
    for values in cells.values():
        values[live, 1:] = 0.0
    data = training_set(replace(whole, **cells), WordEncoder())
    split = split_rows(whole.texts, seed=0)
    complete = split._replace(**{name: rows[data.table.known_in_full[rows]] for name, rows in split._asdict().items() if name != "train"})
    made = [make(data, complete, CANDIDATES["logistic"], 0) for make in (fit_predictor, _shuffled_predictor)]
    honest, shuffled = (predictor.costs.tokens(data.features) for predictor in made)
    np.testing.assert_array_equal(shuffled, honest)
    assert np.abs(made[0].p_correct(data.features) - made[1].p_correct(data.features)).max() > 0.1


def test_a_question_asked_again_is_tested_once():
    once = simulated_table()
    twice = once.rows(np.repeat(np.arange(len(once)), 2))
    twice = replace(twice, query_ids=tuple(map(str, range(len(twice)))))
    parts = _usable(split_rows(twice.texts, seed=0), twice)
    for rows in (parts.calibration, parts.test):
        assert len({twice.texts[row] for row in rows}) == len(rows)


def test_without_a_price_there_is_nothing_to_save_and_it_is_said():
    with pytest.raises(DatasetError, match="costs nothing at these prices"):
        fit(simulated_table(), encoder=WordEncoder(), encoder_name="words", prices=dict.fromkeys(PRICES, Price(usd_per_1m_output=0.0)))


def test_where_every_query_is_its_own_data_set_their_means_are_those_of_all():
    table = simulated_table(120)
    apart, one = (replace(table, datasets=names) for names in (tuple(map(str, range(len(table)))), ("all",) * len(table)))
    apart, one = (training_set(each, WordEncoder()) for each in (apart, one))
    np.testing.assert_array_equal(*(learners.fit_segments(each).logits(each.features) for each in (apart, one)))
    np.testing.assert_array_equal(*(segment_logits(each, each.features) for each in (apart, one)))

"""Stacks and their members on questions whose rates are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.router.calibration import logit, sigmoid
from rheostat.training.embeddings import embed
from rheostat.training.learners import TrainingSet
from rheostat.training.neighbours import kmeans_logits, knn_logits, segment_logits
from rheostat.training.stack import fit_stack, fit_weights, mix
from tests.training.fitting import WordEncoder
from tests.training.test_backtest import logged

LOOKUPS = {"knn": knn_logits, "kmeans": kmeans_logits, "segments": segment_logits}


def training_set(n: int = 400, seed: int = 0) -> TrainingSet:
    table = logged(n, seed).table
    return TrainingSet(WordEncoder().encode(list(table.texts)), WordEncoder.dimension, table)


@pytest.mark.parametrize("member", ["knn", "kmeans"])
def test_lookups_tell_easy_from_hard(member):
    train, new = training_set(), training_set(100, seed=1)
    p = sigmoid(LOOKUPS[member](train, new.features, 0))
    hard = np.array(["hard" in text for text in new.table.texts])
    assert p[~hard, 0].min() > 0.8
    assert p[hard, 0].max() < 0.4


def test_one_data_set_gives_its_means_to_everybody():
    train = training_set()
    single = replace(train, table=replace(train.table, datasets=("one",) * 400))
    p = sigmoid(segment_logits(single, train.features[:5], 0))
    assert np.ptp(p, axis=0) == pytest.approx(0.0)
    assert p[0] == pytest.approx(train.table.reward.mean(axis=0), abs=0.01)


def test_stack_without_signal_keeps_the_members_mean():
    x = np.zeros((50, 2, 3))
    weights = fit_weights(x, np.tile([0.5, 0.5], (50, 1)), np.zeros(2))
    assert weights[:, :-1] == pytest.approx(1 / 3)


def test_stack_trusts_the_member_that_knows():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 1)) * 2
    x = np.stack([truth, rng.normal(size=(4000, 1)) * 2], axis=2)
    reward = (rng.random((4000, 1)) < sigmoid(truth)).astype(float)
    weights = fit_weights(x, reward, logit(reward.mean(axis=0)))
    assert weights[0, 0] > 0.85
    assert abs(weights[0, 1]) < 0.15
    assert np.abs(mix(x, weights) - sigmoid(truth)).mean() < 0.03


def test_cross_fitted_predictions_do_not_know_their_own_rewards():
    train = training_set()
    noise = (np.random.default_rng(2).random(train.table.reward.shape) < 0.5).astype(float)
    random = replace(train, table=replace(train.table, reward=noise))
    stacked = fit_stack(random, train.features[:3], members={"knn": knn_logits})
    assert abs(np.corrcoef(stacked.held_in[:, 0], noise[:, 0])[0, 1]) < 0.2


def test_embeddings_are_kept_and_found_again(tmp_path):
    texts = ["one long question about sheep", "short", "another"]
    first = embed(WordEncoder(), texts, tmp_path)
    assert first == pytest.approx(WordEncoder().encode(texts))
    assert (embed(WordEncoder(), texts, tmp_path) == first).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_other_texts_are_embedded_anew(tmp_path):
    embed(WordEncoder(), ["one"], tmp_path)
    embed(WordEncoder(), ["two"], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2

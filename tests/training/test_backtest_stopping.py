"""The comparison of stop rules on a simulated log."""

from __future__ import annotations

import functools

import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.samples import samples_frame
from rheostat.data.simulate import World
from rheostat.training import backtest_stopping as stopping
from rheostat.training.backtest_stopping import StopPoint, StopReport, best_published, samples_at
from rheostat.training.sampled_items import Items, items_of
from rheostat.training.stopping_prior import question_priors
from tests.training.fitting import WordEncoder

K = 8


@functools.cache
def log() -> pl.DataFrame:
    return samples_frame(World(0, models=World(0).models[:1]).samples(500, direct=1, cot=K)).filter(pl.col("strategy") == "cot")


def items(frame: pl.DataFrame | None = None) -> Items:
    frame = log() if frame is None else frame
    return items_of(frame.with_columns(dataset=pl.lit("all")), K)


@functools.cache
def report(text: bool = True) -> StopReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "PRICES", (0.002, 0.01, 0.05))
        return stopping.backtest_stopping(items(), k=K, encoder=WordEncoder() if text else None)


def test_every_rule_is_there_with_ordered_intervals():
    rules = report().rules
    assert {"fixed", "lead", "beta", "dirichlet", "esc", "certified", "curtail", "learned", "learned_no_prior"} == set(rules)
    for curve in rules.values():
        assert all(point.low <= point.accuracy <= point.high and 1 <= point.samples <= K for point in curve.points)


def test_the_reference_is_reached_by_itself_and_more_cheaply_by_the_learned_rule():
    found = report()
    assert found.reference.rule == "fixed(8)"
    assert found.rules["curtail"].points[0].accuracy == pytest.approx(found.reference.accuracy)
    learned = found.rules["learned"].samples_at_reference
    assert learned is not None
    published = best_published(found.rules)
    assert published is not None
    assert learned < published[1]


def test_without_texts_the_group_is_the_prior():
    frame = log().with_columns(query_text=pl.lit(None, dtype=pl.String))
    bare = items(frame)
    priors = question_priors(bare, np.arange(100), k=K, encoder=WordEncoder(), seed=0)
    assert priors.source == "group"
    assert priors.values.shape == (len(bare), 3)


def test_priors_never_look_at_the_rewards_of_held_out_questions():
    whole, train = items(), np.arange(300)
    other = whole.rewards.copy()
    other[300:] = 1.0 - other[300:]
    changed = Items(**{name: getattr(whole, name) for name in Items.__slots__} | {"rewards": other})
    first, second = (question_priors(each, train, k=K, encoder=WordEncoder(), seed=0).values for each in (whole, changed))
    np.testing.assert_array_equal(first, second)


def test_samples_at_a_reference_mix_settings():
    points = [StopPoint(setting="", samples=s, accuracy=a, low=a, high=a) for s, a in ((1, 0.5), (3, 0.4), (5, 0.7))]
    assert samples_at(points, 0.6) == pytest.approx(3.0)
    assert samples_at(points, 0.5) == 1.0
    assert samples_at(points, 0.8) is None


def test_too_few_questions_are_refused():
    with pytest.raises(DatasetError, match="at least 20"):
        stopping.backtest_stopping(items(log().head(10 * K)), k=K)

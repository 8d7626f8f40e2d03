from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rheostat.policies.scorers.answer_features import STATISTICS, Answer, answer_statistics

answers = st.builds(
    Answer,
    answer=st.none() | st.text(max_size=30),
    tokens=st.integers(0, 10_000),
    mean_logprob=st.none() | st.floats(-1e6, 0.0),
    finish_reason=st.sampled_from(["stop", "length"]),
)


def column(name: str, question: str, group: list[Answer]) -> list[float]:
    return answer_statistics(question, group)[:, STATISTICS.index(name)].tolist()


@given(st.text(max_size=80), st.lists(answers, max_size=12))
def test_statistics_are_finite_for_any_group(question: str, group: list[Answer]) -> None:
    rows = answer_statistics(question, group)

    assert rows.shape == (len(group), len(STATISTICS))
    assert np.isfinite(rows).all()


@given(st.text(max_size=40), st.lists(answers, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(question: str, group: list[Answer], rng: random.Random) -> None:
    places = list(range(len(group)))
    rng.shuffle(places)
    shuffled = answer_statistics(question, [group[at] for at in places])

    assert np.allclose(shuffled, answer_statistics(question, group)[places], atol=1e-4)


def test_votes_are_shares_of_all_that_was_drawn() -> None:
    group = [Answer("7", 5, -0.1), Answer("7", 5, -0.2), Answer("8", 5, -0.3), Answer(None, 5, None)]

    assert column("share_of_votes", "?", group) == [0.5, 0.5, 0.25, 0.0]
    assert column("votes_ahead_of_best_other", "?", group) == [0.25, 0.25, -0.25, -0.5]
    assert column("unparsed_share", "?", group) == [0.25] * 4


def test_an_answer_that_repeats_the_question_shows() -> None:
    group = [Answer("12", 5, -0.1), Answer("35", 5, -0.1)]

    assert column("answer_in_question", "12 + 23?", group) == [1.0, 0.0]
    assert column("question_numbers", "12 + 23?", group)[0] == np.float32(np.log1p(2))

"""Replay: estimates held against brute force over all orders, and against the simulated truth."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import ActionError, DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from rheostat.data.simulate import World
from rheostat.data.verifiers import verifier_of
from rheostat.policies.drawing import wave_sizes
from rheostat.policies.evidence import count_answers
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from rheostat.policies.scorers.referenced import Referenced
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.replay import replay, waves_of
from rheostat.training.votes import Schedule, replay_votes
from tests.policies import make

ANSWERS = st.lists(st.sampled_from(["right", "wrong", "other", None]), min_size=3, max_size=5)


def frame(answers: list[str | None], scores: list[float] | None = None, **columns: object) -> pl.DataFrame:
    rows = [
        {
            "dataset": "d",
            "query_id": "q",
            "query_text": "text",
            "model": "m",
            "strategy": "cot",
            "sample_index": index,
            "temperature": 0.8,
            "answer": answer,
            "correct": float(answer == "right"),
            "prompt_tokens": 5,
            "completion_tokens": 10 + index,
            "latency_s": 0.5,
            "level": 1,
            "mean_logprob": scores[index] if scores else -1.0,
        }
        | columns
        for index, answer in enumerate(answers)
    ]
    return pl.DataFrame(rows, schema_overrides={"answer": pl.String})


def world_frame(n: int, **counts: int) -> pl.DataFrame:
    return pl.DataFrame([msgspec.structs.asdict(sample) for sample in World(0).samples(n, **counts)], infer_schema_length=None)


def majority(answers: tuple[str | None, ...]) -> float:
    return float(count_answers(answers).leader == "right")


@given(ANSWERS)
@settings(max_examples=40, deadline=None)
def test_vote_over_all_samples_counts_as_the_strategies_do_for_every_rotation(answers):
    k = len(answers)
    table = replay(frame(answers), [Action("m", "self_consistency", 99, (("k", k),))], seed=1)
    every_order = [majority(order) for order in itertools.permutations(answers)]
    if len(set(every_order)) == 1:
        assert table.reward[0, 0] == every_order[0]
    assert 0 <= table.reward[0, 0] <= 1


def test_vote_is_unbiased_against_every_order_of_every_subset():
    answers = ["right", "wrong", "wrong", None, "right", "other"]
    truth = np.mean([majority(order) for order in itertools.permutations(answers, 3)])
    estimates = [replay(frame(answers), [Action("m", "self_consistency", 99, (("k", 3),))], seed=seed).reward[0, 0] for seed in range(60)]
    assert abs(np.mean(estimates) - truth) < 4 * np.std(estimates) / np.sqrt(len(estimates)) + 1e-9


def test_one_vote_is_exactly_one_sample():
    answers = ["right", None, "wrong", "right"]
    one, vote = Action("m", "cot", 10), Action("m", "self_consistency", 10, (("k", 1),))
    table = replay(frame(answers), [one, vote])
    np.testing.assert_allclose(table.reward[0], [0.5, 0.5])
    np.testing.assert_allclose(table.tokens[0], [11.5, 11.5])


def test_unparsed_samples_never_vote_but_cost_and_count():
    table = replay(frame([None, None, "right", None]), [Action("m", "self_consistency", 99, (("k", 4),)), Action("m", "cot", 10)])
    np.testing.assert_allclose(table.reward[0], [1.0, 0.25])
    np.testing.assert_allclose(table.tokens[0], [46.0, 11.5])


def test_stop_rules_stop_where_the_served_rule_would():
    answers = ["right"] * 8
    actions = [Action("m", "self_consistency", 99, (("k", 8), ("stop", stop))) for stop in ("lead(2)", "beta(0.95)", "fixed(8)")]
    table = replay(frame(answers).with_columns(completion_tokens=pl.lit(1)), actions)
    np.testing.assert_allclose(table.tokens[0], [2, 4, 8])
    np.testing.assert_allclose(table.reward[0], 1.0)


def test_certain_stop_gives_the_answer_of_all_samples_for_fewer_tokens():
    log = world_frame(60, direct=1, cot=8)
    full, early = (Action("small", "self_consistency", 99, shape) for shape in ((("k", 8),), (("k", 8), ("stop", "curtail"), ("waves", 1))))
    table = replay(log, [full, early])
    assert (table.tokens[:, 1] <= table.tokens[:, 0] + 1e-9).all()
    assert table.tokens[:, 1].mean() < table.tokens[:, 0].mean()
    np.testing.assert_allclose(table.reward[:, 0], table.reward[:, 1], atol=1e-9)


def test_waves_end_at_k():
    assert Schedule.of(7).checks == (2, 4, 7)
    assert Schedule.of(3, waves=(8,)).checks == (3,)


def test_queries_with_too_few_samples_are_marked_unknown():
    log = pl.concat([frame(["right"] * 4), frame(["right"] * 2, query_id="short")])
    table = replay(log, [Action("m", "self_consistency", 99, (("k", 4),)), Action("m", "cot", 9)])
    np.testing.assert_array_equal(table.weight, [[1, 1], [0, 1]])
    np.testing.assert_array_equal(table.known_in_full, [True, False])


def test_default_actions_are_those_the_log_is_deep_enough_for():
    table = replay(world_frame(4, direct=2, cot=4))
    assert "small/self_consistency(k=4)@768" in table.actions
    assert not any("k=8" in action or "n=8" in action for action in table.actions)


@pytest.mark.parametrize(("tokens", "chain", "vote"), [(192, 256, 768), (257, 512, 2048), (3000, 4096, 16384)])
def test_no_logged_answer_would_be_cut_short_by_the_cap_of_its_action(tokens, chain, vote):
    table = replay(pl.concat([frame(["right"] * 4), frame(["right"] * 4, query_id="long", completion_tokens=tokens)]))
    assert {f"m/cot@{chain}", f"m/self_consistency(k=4)@{vote}"} <= set(table.actions)
    caps = np.array([Action.parse(action).max_tokens for action in table.actions])
    assert (table.tokens <= caps).all()


def test_one_call_is_labelled_from_greedy_samples_and_votes_from_warm_ones():
    log = pl.concat([frame(["wrong"] * 4), frame(["right"], temperature=0.0)])
    table = replay(log, [Action("m", "cot", 9), Action("m", "self_consistency", 9, (("k", 4),))])
    np.testing.assert_array_equal(table.reward, [[1.0, 0.0]])


def test_model_tried_on_few_queries_is_no_default_action():
    queries = [frame(["right"] * 4, query_id=str(number)) for number in range(5)]
    table = replay(pl.concat([*queries, frame(["right"] * 4, model="rare")]))
    assert all(action.startswith("m/") for action in table.actions)
    assert table.known_in_full[:5].all()


def test_labels_estimate_the_simulated_truth():
    world = World(0)
    table = replay(world_frame(300), [Action("small", "cot", 192), Action("large", "cot", 192)])
    for column, model in enumerate(world.models):
        truth = np.mean([world.p_correct(question, model, "cot") for question in world.questions(300)])
        assert abs(table.reward[:, column].mean() - truth) < 0.02


def test_replay_does_not_depend_on_row_order():
    log = world_frame(20, direct=2, cot=8)
    shuffled = replay(log.sample(fraction=1.0, shuffle=True, seed=1))
    table = replay(log)
    order = np.array([shuffled.query_ids.index(query_id) for query_id in table.query_ids])
    np.testing.assert_allclose(shuffled.rows(order).reward, table.reward)


def test_ungraded_samples_stay_in_the_denominator():
    log = frame(["right", "right"]).with_columns(correct=pl.Series([1.0, None]))
    assert replay(log, [Action("m", "cot", 9)]).reward[0, 0] == 0.5


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (Action("absent", "cot", 9), DatasetError, "absent/cot"),
        (Action("m", "mcts", 9), ActionError, "cannot be replayed"),
        (Action("m", "self_consistency", 9, (("k", 2), ("stop", "esc(2)"))), ActionError, "two answers"),
        (Action("m", "best_of_n", 9, (("n", 2), ("stop", "lead(2)"))), ActionError, "stop rule"),
        (Action("m", "cot", 9, (("waits", 2),)), ActionError, "without arguments"),
        (Action("m", "best_of_n", 9, (("by", "prm"), ("n", 2))), ActionError, "no scores by prm"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name(action, error, message):
    with pytest.raises(error, match=message):
        replay(frame(["right", "wrong"]), [action])


def test_empty_log_says_what_to_do():
    with pytest.raises(DatasetError, match="rheostat collect"):
        replay(frame(["right"]).clear())


def test_rows_without_enough_samples_give_zeros():
    votes = replay_votes(np.zeros((1, 2), np.int16), np.ones((1, 2)), np.ones((1, 2)), np.array([2]), Schedule.of(3))
    assert votes.reward.tolist() == [0.0]


def test_best_of_n_never_prefers_an_unparsed_sample():
    log = frame([None, "right"], [-0.1, -9.0]).with_columns(mean_logprob=pl.Series([-0.1, None]))
    assert replay(log, [Action("m", "best_of_n", 9, (("n", 2),))]).reward[0, 0] == 1.0


def test_verifier_finds_the_one_right_answer():
    action = Action("m", "best_of_n", 9, (("by", "verifier"), ("n", 3)))
    assert replay(frame(["wrong", "right", "wrong"]), [action]).reward[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spelling", "waves"),
    [
        ("m/self_consistency(k=8)@99", 1),
        ("m/self_consistency(k=8,waves=4)@99", 2),
        ("m/self_consistency(k=8,stop=lead(9))@99", 3),
        ("m/best_of_n(n=8)@99", 1),
        ("m/best_of_n(n=8,waves=3)@99", 3),
        ("m/best_of_n(by=verifier,n=8)@99", 3),
    ],
)
def test_samples_take_as_many_waves_of_seconds_as_live_sends(spelling, waves):
    table = replay(frame(["wrong"] * 8), [Action.parse(spelling)])
    assert table.latency_s[0, 0] == pytest.approx(0.5 * waves)


@pytest.mark.parametrize("spelling", ["m/self_consistency(k=7)@9999", "m/best_of_n(n=7)@9999", "m/best_of_n(by=verifier,n=7)@9999"])
async def test_the_waves_charged_are_those_that_a_backend_is_sent(spelling):
    action, backend = Action.parse(spelling), FakeBackend(model=FakeModel(default={"wrong": 1.0}))
    scorer = Referenced(verifier_of("")) if "verifier" in spelling else None
    await run_action(action, make.question(), {"m": backend}, kind="number", seed=0, scorer=scorer)
    assert [request.n for request in backend.requests] == [*wave_sizes(7, waves_of(action))]


def test_a_verifier_ends_the_drawing_and_what_is_charged():
    right, wrong = ["right"] * 8, ["wrong"] * 8
    table = replay(pl.concat([frame(right), frame(wrong, query_id="w")]), [Action.parse("m/best_of_n(by=verifier,n=8)@99")])
    np.testing.assert_allclose(table.tokens[:, 0], [2 * 13.5, 8 * 13.5])
    np.testing.assert_allclose(table.latency_s[:, 0], [0.5, 1.5])


def test_table_round_trips_through_its_file(tmp_path):
    table = replay(world_frame(5, direct=1, cot=4))
    table.save(tmp_path / "table.npz")
    loaded = OutcomeTable.load(tmp_path / "table.npz")
    assert loaded.digest == table.digest
    assert loaded.texts == table.texts


def test_foreign_file_is_no_table(tmp_path):
    (tmp_path / "table.npz").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="no outcome table"):
        OutcomeTable.load(tmp_path / "table.npz")


def test_costs_follow_the_price_of_each_model():
    table = replay(world_frame(3, direct=1, cot=2), [Action("small", "cot", 9), Action("large", "cot", 9)])
    cost = table.cost_usd({"large": Price(usd_per_1m_input=2.0, usd_per_1m_output=3.0)})
    np.testing.assert_allclose(cost[:, 0], table.tokens[:, 0] / 1e6)
    np.testing.assert_allclose(cost[:, 1], (3 * table.tokens[:, 1] + 2 * table.prompt_tokens[:, 1]) / 1e6)


def test_joined_tables_leave_unknown_cells_without_weight():
    table = replay(world_frame(3, direct=1, cot=2), [Action("small", "cot", 9), Action("large", "cot", 9)])
    joined = table.joined(table.only(["large/cot@9"]))
    assert len(joined) == 6
    np.testing.assert_array_equal(joined.weight[3:], [[0, 1]] * 3)
    with pytest.raises(DatasetError, match="no outcomes of"):
        table.only(["large/cot@8"])


@pytest.mark.parametrize(
    ("reward", "message"), [(np.array([[2.0]]), "scale them"), (np.array([[np.nan]]), "query 0"), (np.ones((2, 1)), "shape")]
)
def test_cells_that_do_not_fit_are_refused(reward, message):
    one = np.ones((1, 1))
    with pytest.raises(DatasetError, match=message):
        OutcomeTable(("q",), ("t",), ("d",), (1,), ("m/cot@9",), reward, one, one, one, one)

"""A bundle judged on the store of another router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Constraints, Decision, Outcome, Query
from rheostat.data.store import OutcomeStore
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller
from rheostat.serving.recorder import Recorder
from rheostat.training.guarantee_live import certify_live
from rheostat.training.judged import price_vector
from rheostat.training.ope import ESTIMATORS, Evaluated, evaluate_policy
from rheostat.training.ope_log import logged_bandit, modelled_rewards, picks_of, read_live
from tests.training.make import ACTIONS, TOKENS, bundle, table

N = 240


def write(path: Path, *, text: bool = True, rule: str = "average", seed: int = 0, fails: float = 0.0, rated: float = 1.0) -> None:
    """An even coin chose; the cheap action is right on easy questions, the dear one 9 times in 10 everywhere, unless it fails.

    Of the answers only the share `rated` has rewards.
    """
    rng = np.random.default_rng(seed)
    with OutcomeStore(path) as store:
        for i in range(N):
            hard, dear = bool(i % 2), bool(rng.integers(2))
            reward = float(rng.random() < 0.9) if dear else float(not hard)
            name = f"d{i:04}"
            store.put(
                Decision(
                    decision_id=name,
                    query_id=f"q{i}",
                    created_s=float(i),
                    action=ACTIONS[dear],
                    propensity=0.5,
                    rule=rule,
                    prompt_text=f"{'hard' if hard else 'easy'} {i}" if text else None,
                )
            )
            ledger = Ledger(calls=1, prompt=1, completion=100 if dear else 10)
            outcome = Outcome(decision_id=name, finished_s=i + 1.0, status="ok", ledger=ledger, cost_usd=0.0, latency_s=0.1, reward=reward)
            if dear and fails and rng.random() < fails:
                outcome = msgspec.structs.replace(outcome, status="failed", reward=None)
            elif rng.random() >= rated:
                outcome = msgspec.structs.replace(outcome, reward=None)
            store.put(outcome)


def test_what_was_drawn_beside_the_bundles_actions_counts_with_no_weight(tmp_path):
    """A log in which half of the draws were of several actions or of an action the bundle does not have."""
    router, values = bundle(tmp_path / "bundle", knows=True), []
    for seed in range(6):
        rng, path = np.random.default_rng(seed), tmp_path / f"{seed}.db"
        with OutcomeStore(path) as store:
            for i in range(400):
                hard, drawn = bool(i % 2), int(rng.integers(4))
                action = [*ACTIONS, ACTIONS[0], "m/direct@3"][drawn]
                name, reward = f"d{i:04}", float(rng.random() < 0.9) if drawn == 1 else float(not hard)
                rule = "sequential" if drawn == 2 else "average"
                text = f"{'hard' if hard else 'easy'} {i}"
                store.put(
                    Decision(
                        decision_id=name, query_id=name, created_s=float(i), action=action, propensity=0.25, rule=rule, prompt_text=text
                    )
                )
                store.put(
                    Outcome(
                        decision_id=name,
                        finished_s=i + 1.0,
                        status="ok",
                        ledger=Ledger(calls=1),
                        cost_usd=0.0,
                        latency_s=0.1,
                        reward=reward,
                    )
                )
        log = read_live([path], router)
        assert log.counts["several actions"] + log.counts["unknown action"] + log.counts["used"] == len(log.table) == 400
        found = evaluate_policy(logged_bandit(log, router, target=0.9, prices={}), modelled_rewards(log.table, router.encoder))
        assert found.diagnostics.overlap_interval[0] <= 1 <= found.diagnostics.overlap_interval[1]
        values.append(found.estimates["ips"].value)
        assert not certify_live(log, router, prices={}, target=0.97).certificate.feasible
    assert np.mean(values) == pytest.approx(TRUTH, abs=0.12)  # without them it was 1.9


def test_an_action_that_often_fails_is_worth_as_much_less(tmp_path):
    """The dear action fails on every other question that it is drawn for: of the hard half the router earns half of 0.9."""
    router, values = bundle(tmp_path / "bundle", knows=True), []
    for seed in range(6):
        write(tmp_path / f"{seed}.db", seed=seed, fails=0.5)
        log = read_live([tmp_path / f"{seed}.db"], router)
        assert log.counts == {"used": N}
        found = evaluate_policy(logged_bandit(log, router, target=0.9, prices={}), modelled_rewards(log.table, router.encoder))
        values.append(found.estimates["ips"].value)
    assert np.mean(values) == pytest.approx(0.5 + 0.5 * 0.45, abs=0.08)  # without them it comes to 1.03


def test_where_few_answers_have_rewards_as_few_failures_count(tmp_path):
    """The same worth as above: who rates one answer in five has not seen five times as many failures."""
    router, values = bundle(tmp_path / "bundle", knows=True), []
    for seed in range(10):
        write(tmp_path / f"{seed}.db", seed=seed, fails=0.5, rated=0.2)
        log = read_live([tmp_path / f"{seed}.db"], router)
        assert sum(log.counts.values()) == N
        assert log.counts["used"] < 0.4 * N
        bandit = logged_bandit(log, router, target=0.9, prices={})
        values.append(float((bandit.weight * bandit.reward).mean()))
    assert np.mean(values) == pytest.approx(0.5 + 0.5 * 0.45, abs=0.1)


def test_a_router_that_knows_is_worth_what_it_would_earn(tmp_path):
    write(tmp_path / "log.db")
    router = bundle(tmp_path / "bundle", knows=True)
    log = read_live([tmp_path / "log.db"], router)
    bandit = logged_bandit(log, router, target=0.9, prices={})
    assert log.counts == {"used": N}
    assert (bandit.propensity == 0.5).all()
    found = evaluate_policy(bandit, modelled_rewards(log.table, router.encoder))
    for name in ("ips", "snips", "dr"):
        assert found.estimates[name].low <= 0.95 <= found.estimates[name].high


def served(path: Path, router: Bundle, n: int, *, seed: int) -> None:
    """What a sidecar writes when this router decides and explores, and the client tells later what was right."""
    rng = np.random.default_rng(seed)
    controller = Controller(router, prices={}, epsilon=0.5, seed=seed)
    with OutcomeStore(path) as store:
        recorder = Recorder(store, store_prompts="full")
        for _ in range(n):
            hard = bool(rng.integers(2))
            query = Query.of_text(f"{'hard' if hard else 'easy'} {rng.integers(10**6)}")
            decision = controller.decide(Ask(query, defaults=Constraints(target_accuracy=0.7)))
            recorder.decided(decision, query)
            ledger = Ledger(calls=1, prompt=1, completion=int(TOKENS[ACTIONS.index(decision.action)]))
            outcome = Outcome(
                decision_id=decision.decision_id, finished_s=decision.created_s, status="ok", ledger=ledger, cost_usd=0.0, latency_s=0.1
            )
            recorder.finished(outcome, "default")
            dear = decision.action == ACTIONS[1]
            recorder.rewarded(decision.decision_id, float(rng.random() < 0.9) if dear else float(not hard), "feedback")


TRUTH = 0.95  # of a router that knows: the cheap action on easy questions, where it is always right, and the dear one on hard ones


def test_intervals_from_served_traffic_cover_what_the_router_would_have_earned(tmp_path):
    logging, router = bundle(tmp_path / "a", knows=False), bundle(tmp_path / "b", knows=True)
    covered: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    for seed in range(1000, 1020):
        served(tmp_path / f"{seed}.db", logging, 300, seed=seed)
        log = read_live([tmp_path / f"{seed}.db"], router)
        found = evaluate_policy(logged_bandit(log, router, target=0.9, prices={}), modelled_rewards(log.table, router.encoder))
        for name, estimate in found.estimates.items():
            covered.setdefault(name, []).append(estimate.low <= TRUTH <= estimate.high)
            errors.setdefault(name, []).append((estimate.value - TRUTH) ** 2)
    for name in ("ips", "snips", "dr", "switch_dr"):
        assert sum(covered[name]) >= 16, name  # of 20 at 95%: fewer come up once in 390
    assert np.mean(errors["dr"]) < np.mean(errors["ips"])


def test_the_command_reads_a_store_and_says_every_estimate(tmp_path):
    served(tmp_path / "log.db", bundle(tmp_path / "a", knows=False), 400, seed=1000)
    folder = bundle(tmp_path / "b", knows=True).save(tmp_path / "bundle")
    arguments = ["ope", str(tmp_path / "log.db"), "--policy", str(folder), "--target", "0.9", "--json", "-"]
    found = msgspec.json.decode(CliRunner().invoke(app, arguments).stdout, type=Evaluated)
    assert set(found.estimates) == set(ESTIMATORS)
    assert found.estimates["dr"].low <= TRUTH <= found.estimates["dr"].high
    assert found.diagnostics.n == 400
    assert "live rows: 400 used" in CliRunner().invoke(app, arguments).stderr
    refused = CliRunner().invoke(app, [*arguments, "--min-ess", "1000"])
    assert refused.exit_code == 1
    assert "are needed: log more" in refused.stderr


def test_what_a_client_forced_is_left_out_and_counted(tmp_path):
    write(tmp_path / "log.db", rule="forced")
    with pytest.raises(DatasetError, match="240 forced by the client"):
        read_live([tmp_path / "log.db"], bundle(tmp_path / "bundle", knows=True))


def test_far_from_its_training_the_guard_decides(tmp_path):
    router = bundle(tmp_path, knows=True)
    careful = replace(router, guard=replace(router.guard, limit=-1.0))
    assert picks_of(router, table(10), {}, [0.0]).ravel().tolist() == [0] * 10
    assert picks_of(careful, table(10), {}, [0.0]).ravel().tolist() == [careful.guard.action] * 10


def test_the_queries_a_bundle_keeps_cost_what_they_cost_in_the_table(tmp_path):
    prices = {"m": Price(usd_per_1m_input=2.0, usd_per_1m_output=3.0)}
    router = bundle(tmp_path, knows=True)
    np.testing.assert_allclose(router.held_out.cost_usd(price_vector(router, prices)), table(100).cost_usd(prices))


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path):
    write(tmp_path / "log.db", text=False)
    with pytest.raises(DatasetError, match="240 text not kept"):
        read_live([tmp_path / "log.db"], bundle(tmp_path / "bundle", knows=True))


def test_options_of_the_other_kind_of_promise_are_refused(tmp_path):
    served(tmp_path / "log.db", bundle(tmp_path / "a", knows=False), 300, seed=1000)
    folder = bundle(tmp_path / "b", knows=True).save(tmp_path / "bundle")
    arguments = ["guarantee", str(tmp_path / "log.db"), "--policy", str(folder), "--target", "0.9"]
    refused = CliRunner().invoke(app, [*arguments, "--splits", "50"])
    assert refused.exit_code == 2
    assert "leave out --splits" in refused.stderr
    assert CliRunner().invoke(app, arguments).exit_code == 0

import threading
from dataclasses import replace

import msgspec
import pytest

from rheostat.data.errors import BudgetError, InfeasibleError, StoreError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Action, Constraints, Decision, Outcome, Query
from rheostat.router.ask import Ask
from rheostat.router.fallback import FallbackController
from rheostat.serving.decider import Decider, Reading, Serving
from rheostat.serving.errors import of_error, wire_error
from rheostat.serving.metrics import Metrics
from rheostat.serving.recorder import REMEMBERED, Recorder

FALLBACK = FallbackController([Action.parse("pocket/cot@64")])
ASK = Ask(Query.of_text("hello there"), tier="quick", defaults=Constraints(), models=frozenset({"pocket"}))


class Broken:
    def __init__(self, error):
        self.error = error
        self.thread = None

    def decide(self, ask):
        self.thread = threading.current_thread()
        raise self.error

    def explain(self, ask):
        self.thread = threading.current_thread()
        return {"seen": ask.query.text}


class Guides:
    def __init__(self, name):
        self.name = name

    def decide(self, ask):
        return FALLBACK.decide(ask)

    def follow(self, ask, decision):
        return self.name


class Unreadable:
    def read(self, texts):
        raise ValueError(texts)


def decider():
    metrics = Metrics(tiers=frozenset({"quick"}))
    return Decider(FALLBACK, metrics=metrics), metrics


async def test_a_predictor_that_fails_in_any_way_falls_back_and_is_counted():
    made, metrics = decider()
    made.swap(Serving(controller=Broken(ZeroDivisionError()), version="7"))
    decision = await made.decide(ASK)
    assert (decision.action, decision.degraded) == ("pocket/cot@64", "predictor_failed")
    assert metrics.registry.get_sample_value("rheostat_predictor_failures_total") == 1
    assert made.version == "7"
    assert await made.explain(ASK) == {"seen": "hello there"}


async def test_a_text_that_cannot_be_read_falls_back_like_any_other_failure():
    made, metrics = decider()
    made.swap(Serving(controller=Unreadable(), version="7", reading=Reading.TOGETHER))
    decision = await made.decide(ASK)
    assert (decision.action, decision.degraded) == ("pocket/cot@64", "predictor_failed")
    assert metrics.registry.get_sample_value("rheostat_predictor_failures_total") == 1


async def test_an_infeasible_strict_request_is_no_failure_of_the_predictor():
    made, _ = decider()
    made.swap(Serving(controller=Broken(InfeasibleError("cannot")), version="7"))
    with pytest.raises(InfeasibleError):
        await made.decide(replace(ASK, defaults=Constraints(strict=True)))


async def test_without_a_promise_a_bundle_that_fits_no_model_leaves_it_to_the_fallback():
    made, metrics = decider()
    made.swap(Serving(controller=Broken(InfeasibleError("none of the models is up")), version="7"))
    decision = await made.decide(ASK)
    assert (decision.action, decision.degraded) == ("pocket/cot@64", "no_model")
    assert metrics.registry.get_sample_value("rheostat_predictor_failures_total") == 0


class Blind(Broken):
    def explain(self, ask):
        raise self.error


@pytest.mark.parametrize(("error", "counted"), [(ZeroDivisionError(), 1), (InfeasibleError("none of the models is up"), 0)])
async def test_where_the_fallback_decides_it_explains_too(error, counted):
    made, metrics = decider()
    made.swap(Serving(controller=Blind(error), version="7"))
    assert await made.explain(ASK) == FALLBACK.explain(ASK)
    assert metrics.registry.get_sample_value("rheostat_predictor_failures_total") == counted


async def test_the_bundle_that_decided_guides_its_decision_also_after_a_swap():
    made, _ = decider()
    old, new = Guides("old"), Guides("new")
    made.swap(Serving(controller=old, version="7"))
    decision = msgspec.structs.replace(await made.decide(ASK), bundle="7")
    assert made.follow(ASK, decision) == "old"
    made.swap(Serving(controller=new, version="8"))
    assert made.follow(ASK, decision) == "old"
    assert made.follow(ASK, msgspec.structs.replace(decision, bundle="8")) == "new"


@pytest.mark.parametrize("reading", [Reading.IN_THREAD, Reading.ALONE])
async def test_a_slow_encoder_decides_and_explains_off_the_loop(reading):
    made, _ = decider()
    broken = Broken(ValueError())
    made.swap(Serving(controller=broken, version="7", reading=reading))
    for asked in (made.decide, made.explain):
        await asked(ASK)
        assert (broken.thread is not threading.main_thread()) == (reading is Reading.IN_THREAD)


def test_labels_stay_bounded_whatever_clients_force():
    metrics = Metrics(tiers=frozenset({"quick"}))
    decision = Decision(decision_id="d", query_id="q", created_s=0.0, action="a/b@1", propensity=1.0, tier="quick")
    for number in range(2000):
        metrics.decided(msgspec.structs.replace(decision, action=f"a/b@{number}", tier=f"t{number}"))
        metrics.decided(msgspec.structs.replace(decision, action=f"a/passthrough@{number}", rule="passthrough"))
    assert metrics.text().count(b"rheostat_decisions_total{") < 600


class Shelf:
    def __init__(self):
        self.records = []

    def put(self, record):
        self.records.append(record)
        return True

    def decision(self, decision_id):
        return next((r for r in self.records if isinstance(r, Decision) and r.decision_id == decision_id), None)

    def outcome(self, decision_id):
        return next((r for r in self.records if isinstance(r, Outcome) and r.decision_id == decision_id), None)


def test_a_recorder_remembers_the_last_decisions_and_finds_the_others_in_the_store():
    shelf = Shelf()
    recorder = Recorder(shelf, store_prompts="full")
    for number in range(REMEMBERED + 1):
        decision = Decision(decision_id=f"d{number}", query_id="q", created_s=0.0, action="a/b@1", propensity=1.0, tenant="t")
        recorder.decided(decision, ASK.query)
    assert recorder.recent("d0") is None
    assert recorder.recent(f"d{REMEMBERED}").tenant == "t"
    assert recorder.stored("d0").tenant == "t"
    assert recorder.stored("nothing") is None
    assert shelf.records[0].prompt_text == "hello there"
    outcome = Outcome(decision_id="d0", finished_s=0.0, status="ok", ledger=Ledger(), cost_usd=0.0, latency_s=0.0, answer="5")
    recorder.finished(outcome, "t")
    assert recorder.stored("d0").answer == recorder.recent("d0").answer == "5"


def test_errors_have_the_status_that_tells_a_client_what_to_do():
    assert of_error(BudgetError("x")).status == 400
    assert of_error(StoreError("x")).status == 500
    assert of_error(UpstreamError("x", backend="b", status=429, retry_after_s=2.5)).headers == {"retry-after": "3"}
    assert msgspec.json.decode(wire_error(418, "x").body)["error"]["type"] == "invalid_request_error"

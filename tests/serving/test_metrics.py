import re
from pathlib import Path

from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome
from rheostat.serving.metrics import Metrics
from rheostat.serving.tally import Tally

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(rheostat_\w+)` \| (\w+) \|([\w, ]*)\| (.+) \|$", re.MULTILINE)


def decision(decision_id, action="a/b@100", **fields):
    return Decision(decision_id=decision_id, query_id="q", created_s=0.0, action=action, propensity=1.0, **fields)


def outcome(decision_id):
    return Outcome(decision_id=decision_id, finished_s=0.0, status="ok", ledger=Ledger(), cost_usd=0.0, latency_s=0.0)


def shape(collector):
    if isinstance(collector, Tally):
        return collector.name, ("counter", collector.labels)
    return collector._name, (collector._type, tuple(collector._labelnames))


def test_the_documented_metrics_are_the_ones_there_are():
    documented = {
        name: (kind, tuple(filter(None, labels.replace(" ", "").split(",")))) for name, kind, labels, _ in ROW.findall(DOCS.read_text())
    }
    assert documented == dict(map(shape, set(Metrics().registry._collector_to_names)))


def test_tokens_that_may_still_be_generated_are_those_of_requests_in_flight():
    metrics = Metrics()

    def reserved():
        return metrics.registry.get_sample_value("rheostat_reserved_tokens")

    for name in ("one", "two"):
        metrics.decided(decision(name))
    assert reserved() == 200
    metrics.finished(outcome("one"))
    metrics.finished(outcome("never decided"))
    assert reserved() == 100
    metrics.finished(outcome("two"))
    assert reserved() == 0


def test_fallbacks_are_counted_by_reason():
    metrics = Metrics()
    metrics.decided(decision("one", degraded="congested"))
    metrics.decided(decision("two"))
    assert metrics.registry.get_sample_value("rheostat_degraded_total", {"reason": "congested"}) == 1


def test_a_backend_that_left_is_no_longer_shown():
    metrics = Metrics()
    metrics.probed("a", up=True, waiting=1, running=2, cache_use=0.5)
    assert b'rheostat_backend_running{backend="a"} 2.0' in metrics.text()
    metrics.left("a")
    metrics.left("never there")
    assert b'backend="a"' not in metrics.text()

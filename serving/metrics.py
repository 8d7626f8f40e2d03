"""The sidecar's own Prometheus metrics. Labels come from closed sets only, so that no client can grow them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rheostat.data.schema import Decision, Outcome
from rheostat.serving.tally import Tally

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LAGS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_TOKEN_KINDS = ("prompt", "cached_prompt", "completion", "reasoning", "verifier", "wasted")
OTHER = "other"
PASSTHROUGH = "passthrough"


class Metrics:
    """Counters and gauges of one process, in a registry of their own.

    Args:
        tiers: names a decision's tier is labelled with; anything else counts as `other`.
    """

    def __init__(self, *, tiers: frozenset[str] = frozenset()) -> None:
        self.registry = CollectorRegistry()
        self.tiers = tiers
        self._actions: set[str] = set()
        self._caps: dict[str, int] = {}
        self._requests = Tally("rheostat_requests", "Requests by path and status.", ["path", "status"], registry=self.registry)
        self.in_flight = Gauge("rheostat_in_flight", "Requests being served.", registry=self.registry)
        self.queued = Gauge("rheostat_queued", "Requests waiting for a place.", registry=self.registry)
        self.shed = Counter("rheostat_shed", "Requests refused for load, by reason.", ["reason"], registry=self.registry)
        self.cut = Counter("rheostat_connections_cut", "Connections closed on a client, by reason.", ["reason"], registry=self.registry)
        self._decisions = Tally("rheostat_decisions", "Decisions by action and tier.", ["action", "tier"], registry=self.registry)
        self._degraded = Tally("rheostat_degraded", "Decisions that fell back, by reason.", ["reason"], registry=self.registry)
        self._outcomes = Tally("rheostat_outcomes", "Outcomes by status.", ["status"], registry=self.registry)
        kinds = [(kind,) for kind in _TOKEN_KINDS]
        self._tokens = Tally("rheostat_tokens", "Tokens booked, by kind.", ["kind"], kinds, registry=self.registry)
        self._calls = Tally("rheostat_upstream_calls", "Upstream calls booked.", registry=self.registry)
        self._cost = Tally("rheostat_cost_usd", "Cost booked.", registry=self.registry)
        self.latency = Histogram("rheostat_request_seconds", "Time from decision to outcome.", buckets=_SECONDS, registry=self.registry)
        self.loop_lag = Histogram("rheostat_loop_lag_seconds", "Delay of the event loop.", buckets=_LAGS, registry=self.registry)
        self.predictor_failures = Counter("rheostat_predictor_failures", "Decisions the predictor failed.", registry=self.registry)
        self.encoder_late = Counter("rheostat_encoder_late", "Decisions made before their text was encoded.", registry=self.registry)
        self.upstream_failures = Counter("rheostat_upstream_failures", "Upstream calls failed.", ["backend"], registry=self.registry)
        self.verifications = Counter("rheostat_verifications", "Checks before delivery.", ["result"], registry=self.registry)
        self.retries = Counter("rheostat_upstream_retries", "Calls tried again on another replica.", ["model"], registry=self.registry)
        self.backend_up = Gauge("rheostat_backend_up", "1 while a backend takes calls.", ["backend"], registry=self.registry)
        self.backend_waiting = Gauge("rheostat_backend_waiting", "Requests in the engine's queue.", ["backend"], registry=self.registry)
        self.backend_running = Gauge("rheostat_backend_running", "Requests the engine works on.", ["backend"], registry=self.registry)
        self.backend_cache = Gauge("rheostat_backend_cache_used", "Share of the engine's cache.", ["backend"], registry=self.registry)
        self.congestion = Gauge("rheostat_congestion", "How full a model is, from 0 to 1.", ["model"], registry=self.registry)
        reserved = Gauge("rheostat_reserved_tokens", "Tokens that requests in flight may generate.", registry=self.registry)
        reserved.set_function(lambda: sum(self._caps.values()))
        self.config_reloads = Counter("rheostat_config_reloads", "Config reloads by result.", ["result"], registry=self.registry)
        self.log_dropped = Counter("rheostat_log_lines_dropped", "Lines of the request log dropped.", registry=self.registry)
        self.reloads = Counter("rheostat_bundle_reloads", "Bundle reloads by result.", ["result"], registry=self.registry)
        self.bundle = Gauge("rheostat_bundle_info", "The bundle being served.", ["version"], registry=self.registry)
        self.store_healthy = Gauge("rheostat_store_healthy", "1 while the store takes records.", registry=self.registry)
        self.store_dropped = Gauge("rheostat_store_dropped", "Records the store had to drop.", registry=self.registry)

    def answered(self, path: str, status: int) -> None:
        """Count a request by its endpoint and the status of its answer."""
        self._requests.add(path, str(status))

    def decided(self, decision: Decision, *, known_actions: int = 256) -> None:
        """Count a decision; beyond `known_actions` spellings (clients may force any) the rest is `other`."""
        # The cap of a pass-through is the client's own number.
        action = decision.action.partition("@")[0] if decision.rule == PASSTHROUGH else decision.action
        if len(self._actions) < known_actions:
            self._actions.add(action)
        action = action if action in self._actions else OTHER
        self._decisions.add(action, decision.tier if decision.tier in self.tiers else OTHER)
        if decision.degraded:
            self._degraded.add(decision.degraded)
        self._caps[decision.decision_id] = int(decision.action.rpartition("@")[2])

    def finished(self, outcome: Outcome) -> None:
        """Count an outcome and everything booked for it."""
        self._caps.pop(outcome.decision_id, None)
        self._outcomes.add(outcome.status)
        for kind in _TOKEN_KINDS:
            if n_tokens := getattr(outcome.ledger, kind):
                self._tokens.add(kind, n=n_tokens)
        self._calls.add(n=outcome.ledger.calls)
        self._cost.add(n=outcome.cost_usd)
        self.latency.observe(outcome.latency_s)

    def probed(self, backend: str, *, up: bool, waiting: float, running: float, cache_use: float) -> None:
        """Show what a look at a backend saw."""
        self.backend_up.labels(backend).set(up)
        self.backend_waiting.labels(backend).set(waiting)
        self.backend_running.labels(backend).set(running)
        self.backend_cache.labels(backend).set(cache_use)

    def left(self, backend: str) -> None:
        """Forget a backend that is no longer configured."""
        for gauge in (self.backend_up, self.backend_waiting, self.backend_running, self.backend_cache):
            gauge.remove(backend)

    def serving(self, version: str) -> None:
        """Show which bundle is served."""
        self.bundle.clear()
        self.bundle.labels(version).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus text form."""
        return generate_latest(self.registry)

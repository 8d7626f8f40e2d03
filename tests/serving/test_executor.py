"""What a request may spend holds for all that is done for it: decisions that failed, checks, and answers that follow."""

import time

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, Constraints, Decision, Query
from rheostat.policies.base import Completion, Generation, Toolbox
from rheostat.serving.auth import Keys
from rheostat.serving.checker import Checker
from rheostat.serving.config import TIERS, BackendConfig, Config, SessionsConfig
from rheostat.serving.congestion import Congestion
from rheostat.serving.decider import Decider
from rheostat.serving.executor import Executor
from rheostat.serving.job import Jobs
from rheostat.serving.metrics import Metrics
from rheostat.serving.recorder import Recorder
from rheostat.serving.runner import Runner
from rheostat.serving.sessions import Sessions
from rheostat.serving.settings import VerificationConfig
from rheostat.serving.verification import Verification
from rheostat.serving.wire import Chat
from tests.serving.scripted import Scripted, pool_of
from tests.serving.test_passthrough import Kept

BACKENDS = tuple(BackendConfig(name=name, url="http://127.0.0.1:1", model=name) for name in ("a", "b"))
FIRST, SECOND, FOLLOWING = "a/direct@64", "b/direct@64", "b/cot@48"


class Speaking(Scripted):
    """Generates so many tokens for every answer, or wastes them and breaks."""

    def __init__(self, name, tokens, *, breaks=False):
        super().__init__(name)
        self.tokens, self.breaks = tokens, breaks

    async def generate(self, request, book):
        self.requests.append(request)
        tokens = min(self.tokens, request.max_tokens)
        ledger = Ledger(calls=1, wasted=tokens) if self.breaks else Ledger(calls=1, completion=tokens)
        status = "failed" if self.breaks else "ok"
        attempt = Attempt(model=self.name, kind="completion", status=status, ledger=ledger, latency_s=0.0)
        book.book(attempt)
        if self.breaks:
            raise UpstreamError("broke", backend=self.name)
        return Generation(completions=(Completion(index=0, text="The answer is 5.", completion_tokens=tokens),), attempt=attempt)


class Deciding:
    """The model a while it is up, then b; either may be followed by another answer."""

    def __init__(self):
        self.asks = []

    def decide(self, ask):
        self.asks.append(ask)
        return Decision(
            decision_id=f"d{len(self.asks)}",
            query_id="q",
            created_s=time.time(),
            action=FIRST if "a" in ask.models else SECOND,
            propensity=1.0,
            bundle="none",
            alternatives={FOLLOWING: (0.9, 1e-6)},
        )

    def follow(self, ask, decision):
        return None


class Refusing:
    """A judge that finds every answer wrong."""

    name = "judge"

    async def score(self, query, candidate, call):
        return 0.0


async def served(*engines, limits=None, **constraints):
    """The completion, what was asked of the router, and of each engine."""
    config = Config(backend=BACKENDS, tier=TIERS)
    pools = {engine.name: pool_of(engine)[0] for engine in engines}
    toolbox, metrics, deciding = Toolbox(scorers={"judge": Refusing()}), Metrics(), Deciding()
    verification = Verification(
        Runner(pools, toolbox), pools, Checker(pools, toolbox, VerificationConfig()), escalate=True, metrics=metrics
    )  # fmt: skip
    executor = Executor(
        config,
        decider=Decider(deciding, metrics=metrics),
        pools=pools,
        jobs=Jobs(recorder=Recorder(Kept(), store_prompts="off"), metrics=metrics, prices=config.prices),
        congestion=Congestion(weight=0.0, full_queue=1),
        sessions=Sessions(SessionsConfig()),
        toolbox=toolbox,
        verification=verification,
    )
    query = Query.of_text("What is 2 plus 3?")
    chat = Chat(model="auto", query=type(query)(**{**_fields(query), "constraints": Constraints(**constraints)}))
    answer = await executor.complete(executor.admit(chat, Keys(config).principal([])))
    return answer, deciding.asks, engines


def _fields(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


async def test_what_failed_counts_against_the_tokens_of_a_request():
    answer, asks, (_, second) = await served(Speaking("a", 60, breaks=True), Speaking("b", 50), max_tokens_total=90)
    assert answer.usage.completion_tokens == 90
    assert [ask.query.constraints.max_tokens_total for ask in asks] == [90, 30]
    assert [request.max_tokens for request in second.requests] == [30]


@pytest.mark.parametrize(("most", "n_answers"), [(100, 1), (140, 2), (None, 2)])
async def test_another_answer_takes_what_the_failed_ones_left(most, n_answers):
    engines = Speaking("a", 60, breaks=True), Speaking("b", 30)
    answer, _, (_, second) = await served(*engines, max_tokens_total=most, high_stakes=True)
    assert len(second.requests) == n_answers
    assert answer.usage.completion_tokens == 60 + 30 * n_answers
    assert most is None or answer.usage.completion_tokens <= most


async def test_a_request_whose_tokens_are_gone_is_not_decided_again():
    with pytest.raises(UpstreamError, match="broke"):
        await served(Speaking("a", 64, breaks=True), Speaking("b", 30), max_tokens_total=64)

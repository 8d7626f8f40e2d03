"""Decisions for admitted requests, also for those whose tier or model leaves the configuration while they are served."""

import pytest

from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.router.fallback import FallbackController
from rheostat.serving.admitted import admit
from rheostat.serving.auth import Keys
from rheostat.serving.config import SessionsConfig, parse
from rheostat.serving.congestion import Congestion
from rheostat.serving.decider import Decider
from rheostat.serving.decisions import Decisions
from rheostat.serving.metrics import Metrics
from rheostat.serving.sessions import Sessions
from rheostat.serving.wire import parse_chat
from tests.serving.scripted import Scripted, pool_of

POCKET = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'
LARGE = '[[backend]]\nname = "b"\nurl = "http://127.0.0.1:2"\nmodel = "large"\n'
BRIEF = "[tier.brief]\ntarget_accuracy = 0.5\ndeadline_ms = 9000\n[tier.balanced]\ntarget_accuracy = 0.8\n"
BEFORE, AFTER = parse(POCKET + LARGE + BRIEF), parse(POCKET)
FALLBACK = FallbackController([Action.parse("large/cot@64"), Action.parse("pocket/cot@64")])


class Served:
    """Decisions under `BEFORE`, and a request that was admitted there; then `AFTER` takes over."""

    def __init__(self, model, options=""):
        self.pools = {"pocket": pool_of(Scripted("a"))[0], "large": pool_of(Scripted("b"))[0]}
        self.decisions = Decisions(
            BEFORE,
            decider=Decider(FALLBACK, metrics=Metrics()),
            pools=self.pools,
            congestion=Congestion(weight=0.0, full_queue=1),
            sessions=Sessions(SessionsConfig()),
        )
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "x"}}]{options}}}'
        chat = parse_chat(body.encode())
        self.admitted = admit(chat, Keys(BEFORE).principal([]), config=BEFORE, pools=self.pools, toolbox=Toolbox())

    def reload(self):
        """Take `large` and the tier `brief` out."""
        self.decisions.apply(AFTER)
        self.pools["large"].replicas = ()


async def test_a_tier_that_left_still_holds_for_the_requests_admitted_under_it():
    served = Served("auto:brief")
    served.reload()
    decision = await served.decisions.decide(served.admitted)
    assert (decision.tier, decision.target_accuracy) == ("brief", 0.5)
    assert served.decisions.follow(served.admitted, decision) is None
    assert 0.0 < served.admitted.terms.deadline_s <= 9.0


async def test_a_request_for_a_model_that_left_is_decided_and_finds_no_backend():
    served = Served("large")
    served.reload()
    assert (await served.decisions.decide(served.admitted)).action == "large/passthrough@1"
    assert not served.pools["large"].is_available


async def test_with_nothing_up_only_models_of_the_configuration_are_chosen_from():
    served = Served("auto")
    served.reload()
    served.pools["pocket"].replicas = ()
    assert (await served.decisions.decide(served.admitted)).action == "pocket/cot@64"


@pytest.mark.parametrize("model", ["auto:brief", "large"])
async def test_a_decision_says_whether_its_answer_will_be_checked(model):
    for options, checked in [("", False), (', "rheostat": {"high_stakes": true}', True)]:
        served = Served(model, options)
        assert (await served.decisions.decide(served.admitted)).checked is checked

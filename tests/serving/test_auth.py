"""Who is let in, and as whom."""

import hashlib
import hmac

import pytest

from rheostat.data.errors import RequestError
from rheostat.serving import config
from rheostat.serving.auth import Keys
from rheostat.serving.config import BackendConfig, Config, KeyConfig, LimitsConfig
from rheostat.serving.targets import Target

BACKEND = BackendConfig(name="a", url="http://127.0.0.1:1", model="pocket")


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def configured(*keys, **fields):
    return config.checked(Config(backend=(BACKEND,), tier=config.TIERS, key=keys, **fields))


def key(name, **fields):
    return KeyConfig(name=name, sha256=sha256(name), **{"tenant": name, **fields})


def test_without_keys_everyone_is_the_default_tenant():
    assert Keys(configured()).principal([]).tenant == "default"
    assert Keys(configured()).principal(["Bearer whatever"]).tenant == "default"


@pytest.mark.parametrize(
    "headers",
    [[], ["Bearer "], ["Bearer an"], ["Bearer annn"], ["Bearer Ann"], ["ann"], ["Basic ann"], ["Bearer ann"] * 2, ["Bearer ann, ann"]],
)
def test_a_wrong_key_is_refused_and_not_repeated(headers):
    with pytest.raises(RequestError) as caught:
        Keys(configured(key("ann"), key("bob"))).principal(headers)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert "ann" not in str(caught.value)


def test_a_right_key_is_its_tenant_whatever_the_case_of_the_scheme():
    keys = Keys(configured(key("ann"), key("bob", tenant="team")))
    assert keys.principal(["Bearer ann"]).tenant == "ann"
    assert keys.principal(["bearer  bob "]).tenant == "team"


def test_every_key_is_compared_whichever_matches(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = Keys(configured(key("ann"), key("bob"), key("eve")))
    keys.principal(["Bearer ann"])
    assert len(compared) == 3


def test_a_key_may_ask_for_its_tiers_only():
    quick = Keys(configured(key("ann", tiers=("quick",)))).principal(["Bearer ann"])
    quick.check(Target(tier="quick"), forced=False)
    for target, forced, param, asked in [
        (Target(tier="deep"), False, "model", "'deep'"),
        (Target(model="pocket"), False, "model", "a model by name"),
        (Target(tier="quick"), True, "rheostat.action", "an action by name"),
    ]:
        with pytest.raises(RequestError, match=f"the key 'ann' may not ask for {asked}: its tiers are quick") as caught:
            quick.check(target, forced=forced)
        assert (caught.value.status, caught.value.param) == (403, param)
    free = Keys(configured(key("bob", tiers=("quick", "passthrough")))).principal(["Bearer bob"])
    free.check(Target(model="pocket"), forced=False)
    free.check(Target(tier="quick"), forced=True)


def test_other_keys_are_taken_over_at_once_and_a_key_that_stays_keeps_what_it_used():
    keys = Keys(configured(key("ann"), key("bob"), limits=LimitsConfig(tokens_per_minute=100)))
    with keys.principal(["Bearer ann"]).allowance.hold(tokens=90, usd=0) as hold:
        hold.spent(tokens=90, usd=0)
    keys.replace(configured(key("ann"), key("eve"), limits=LimitsConfig(tokens_per_minute=200)))
    assert keys.principal(["Bearer ann"]).allowance.tokens.left == 110
    assert keys.principal(["Bearer eve"]).allowance.tokens.left == 200
    with pytest.raises(RequestError):
        keys.principal(["Bearer bob"])


def test_a_keys_own_limits_go_before_those_of_all():
    limited = key("ann", limits=LimitsConfig(tokens_per_minute=7))
    keys = Keys(configured(limited, key("bob"), limits=LimitsConfig(tokens_per_minute=100)))
    assert [each.allowance.tokens.cap for each in keys.principals()] == [7, 100]


def test_after_a_restart_keys_go_on_from_what_their_tenant_spent_today():
    keys = Keys(configured(key("ann"), key("bob"), limits=LimitsConfig(usd_per_day=1.0)))
    keys.spent_before({"ann": 0.75, "gone": 3.0})
    assert [each.allowance.usd.left for each in keys.principals()] == [0.25, 1.0]

"""Names of models: what they stand for, who may see them, and what is said of one that is not served."""

import json

import pytest

from rheostat.data.errors import RequestError
from rheostat.serving import config, targets
from rheostat.serving.app import Services, build_app
from rheostat.serving.dispatch import Dispatch
from rheostat.serving.targets import Target
from tests.serving.test_auth import key

BACKENDS = [config.BackendConfig(name=name, url="http://127.0.0.1:1", model=name) for name in ("pocket", "org/large")]
CONFIG = config.checked(config.Config(backend=BACKENDS, tier=config.TIERS, key=[key("ann"), key("bob", tiers=("quick",))]))
ALL = ["auto", "auto:quick", "auto:balanced", "auto:deep", "pocket", "org/large"]


def anyone(target):
    """A key without limits."""
    return True


class Counted:
    """Metrics that nobody reads."""

    def answered(self, name, status):
        self.last = name, status


async def asked(path, *, raw=None, name="ann"):
    """Status and body of an answer."""
    services = Services(
        config=CONFIG, executor=None, forwarder=None, recorder=None, metrics=Counted(), status=None, finished=None
    )  # fmt: skip
    headers = [(b"authorization", f"Bearer {name}".encode())]
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": (raw or path).encode(), "headers": headers}
    sent = []

    async def send(message):
        sent.append(message)

    await Dispatch(build_app(services))(scope | {"query_string": b""}, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("name", ALL)
async def test_every_name_of_the_list_is_served_and_can_be_asked_for(name):
    targets.resolve(name, CONFIG, may_name=anyone)
    status, told = await asked(f"/v1/models/{name}", raw=f"/v1/models/{name.replace('/', '%2F')}")
    assert (status, told["id"], told["object"]) == (200, name, "model")
    assert told in (await asked("/v1/models"))[1]["data"]


def test_a_name_is_a_tier_or_a_model():
    assert targets.resolve("auto", CONFIG, may_name=anyone) == Target(tier=CONFIG.router.default_tier)
    assert targets.resolve("auto:deep", CONFIG, may_name=anyone) == Target(tier="deep")
    assert targets.resolve("pocket", CONFIG, may_name=anyone) == Target(model="pocket")


@pytest.mark.parametrize("name", ["auto:quik", "", "auto:", "{model:path}", "../usage", "x" * 1000])
async def test_a_name_that_is_not_served_is_told_with_the_known_ones(name):
    with pytest.raises(RequestError, match="known are auto, auto:quick") as caught:
        targets.resolve(name, CONFIG, may_name=anyone)
    assert (caught.value.status, caught.value.param, caught.value.code) == (404, "model", "model_not_found")
    assert len(str(caught.value)) < 250
    assert (await asked(f"/v1/models/{name}", raw=f"/v1/models/{name.replace('/', '%2F')}"))[0] == 404


async def test_a_name_that_is_nearly_known_is_told_with_it():
    status, told = await asked("/v1/models/auto:quik")
    assert (status, told["error"]["param"]) == (404, "model")
    assert "did you mean 'auto:quick'?" in told["error"]["message"]


async def test_a_key_is_told_of_no_name_that_it_may_not_use():
    _, told = await asked("/v1/models/poket", name="bob")
    assert told["error"]["message"] == "model: 'poket' is not served: known are auto:quick"


async def test_a_key_sees_the_names_that_it_may_use():
    assert [each["id"] for each in (await asked("/v1/models"))[1]["data"]] == ALL
    assert [each["id"] for each in (await asked("/v1/models", name="bob"))[1]["data"]] == ["auto:quick"]
    assert (await asked("/v1/models/auto:quick", name="bob"))[0] == 200
    status, told = await asked("/v1/models/pocket", name="bob")
    assert (status, told["error"]["param"], told["error"]["code"]) == (403, "model", "tier_not_allowed")
    assert (await asked("/v1/models/pocket", name="eve"))[0] == 401

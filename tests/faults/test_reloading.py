"""Configs and bundles that change while requests are served, and artefacts that are not what they should be."""

import asyncio
import json
import pickle
import re
import shutil
import signal
import urllib.request
from collections import Counter

import aiohttp
import numpy as np
import pytest

from tests.faults.conftest import CHAT, FaultyEngine, metric, post
from tests.serving import bundles
from tests.serving.bundles import ACTIONS, write_bundle
from tests.serving.conftest import Sidecar, running, wait_until

BACKEND = '[[backend]]\nname = "{name}"\nurl = "{url}"\nmodel = "pocket"\nusd_per_1m_output = 1.0\n'


@pytest.fixture(scope="module")
def engines(folder):
    with running(FaultyEngine(folder, model="pocket")) as first, running(FaultyEngine(folder, model="pocket")) as second:
        yield first, second


@pytest.fixture(scope="module")
def bundle_sidecar(folder, engines):
    """A sidecar that serves bundle `good` from a folder the tests may spoil."""
    served = folder / "served" / "bundle"
    write_bundle(served, version="good")
    more = f'[router]\nbundle = "{served}"\ncache = "{folder / "cache"}"\npoll_s = 0.1\n'
    with running(Sidecar(folder, engines[:1], store="bundles.db", more=more)) as sidecar:
        sidecar.served = served
        yield sidecar


@pytest.fixture
def good(bundle_sidecar, folder):
    """The sidecar with a fresh good bundle in place and served."""
    fresh = write_bundle(folder / "fresh" / "bundle", version="good")
    put(fresh, bundle_sidecar.served)
    shutil.rmtree(folder / "fresh")
    wait_until(lambda: bundle_sidecar.ready()["reload"]["error"] is None)
    return bundle_sidecar


def put(bundle, served):
    old = served.with_name("old")
    served.rename(old)
    shutil.copytree(bundle, served, symlinks=True)
    shutil.rmtree(old)


def signed(folder, name, content):
    """Change a file and the manifest with it, so that only what it says can give it away."""
    import hashlib
    import json

    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def with_nan(folder):
    import io

    arrays = dict(np.load(folder / "arrays.npz", allow_pickle=False))
    arrays["canary.p"] = np.full_like(arrays["canary.p"], np.nan)
    out = io.BytesIO()
    np.savez(out, **arrays)
    signed(folder, "arrays.npz", out.getvalue())


def flipped(folder):
    data = bytearray((folder / "arrays.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "arrays.npz").write_bytes(data)


def linked(folder):
    (folder / "arrays.npz").rename(folder.parent / "elsewhere.npz")
    (folder / "arrays.npz").symlink_to(folder.parent / "elsewhere.npz")


def listed(name):
    def spoil(folder):
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text.replace('"arrays.npz"', f'"{name}"'))

    return spoil


def _truncated(folder):
    path = folder / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-100])


SPOILED = {
    "pickle": lambda folder: signed(folder, "model.pkl", pickle.dumps({"a": 1})),
    "library": lambda folder: signed(folder, "model.so", b"\x7fELF"),
    "stray": lambda folder: (folder / "stray.json").write_text("{}"),
    "traversal": listed("../../arrays.npz"),
    "symlink": linked,
    "wrong_hash": lambda folder: (folder / "bundle.json").write_text("{}"),
    "truncated": _truncated,
    "bit_flip": flipped,
    "schema": lambda folder: signed(folder, "bundle.json", b'{"version": "x", "actions": ["pocket/direct@64"]}'),
    "nan": with_nan,
    "empty_manifest": lambda folder: (folder / "manifest.json").write_text("{}"),
}


@pytest.mark.parametrize("how", SPOILED)
async def test_a_spoiled_bundle_is_refused_with_a_reason_and_the_last_good_one_serves_on(good, folder, how):
    failures = metric(good, "rheostat_bundle_reloads_total", result="failed")
    spoiled = folder / "spoiled" / "bundle"
    shutil.copytree(good.served, spoiled, symlinks=True)
    SPOILED[how](spoiled)
    # A version of its own, as a new bundle has: the manifest tells versions apart.
    manifest = spoiled / "manifest.json"
    manifest.write_text(manifest.read_text() + " " * (1 + list(SPOILED).index(how)))
    put(spoiled, good.served)
    shutil.rmtree(folder / "spoiled")
    await asyncio.to_thread(wait_until, lambda: good.ready()["reload"]["error"])
    status = good.ready()
    assert status["bundle"] == "good"
    assert len(status["reload"]["error"]) > 20
    assert metric(good, "rheostat_bundle_reloads_total", result="failed") > failures
    code, _, body = await post(good)
    assert code == 200
    assert b'"bundle":"good"' in body


async def test_a_predictor_that_fails_is_served_by_the_fallback_and_marked(good, folder, monkeypatch):
    """The bundle's tokenizer knows no word but its own few, and no way to say so: it raises for any other."""
    make_encoder = bundles._encoder

    def blind(where):
        tokenizer = make_encoder(where) / "tokenizer.json"
        tokenizer.write_text(re.sub(r'"unk_token": ?"\[UNK\]"', '"unk_token": "[NONE]"', tokenizer.read_text()))
        return where

    monkeypatch.setattr(bundles, "_encoder", blind)
    put(write_bundle(folder / "blind" / "bundle", version="blind"), good.served)
    shutil.rmtree(folder / "blind")
    await asyncio.to_thread(wait_until, lambda: good.ready()["bundle"] == "blind")
    status, _, body = await post(good, messages=[{"role": "user", "content": "unheard of"}])
    assert status == 200
    assert b'"degraded":"predictor_failed"' in body
    assert metric(good, "rheostat_predictor_failures_total") >= 1


async def test_a_bundle_whose_models_are_not_there_is_served_by_the_fallback_and_marked(good, folder):
    foreign = {spelling.replace("pocket/", "elsewhere/"): numbers for spelling, numbers in ACTIONS.items()}
    put(write_bundle(folder / "foreign" / "bundle", version="foreign", actions=foreign), good.served)
    shutil.rmtree(folder / "foreign")
    await asyncio.to_thread(wait_until, lambda: good.ready()["bundle"] == "foreign")
    status, _, body = await post(good)
    assert status == 200
    assert b'"degraded":"no_model"' in body
    assert (await post(good, rheostat={"strict": True, "target_accuracy": 0.9}))[0] == 422


class Configured:
    """A sidecar whose config file the tests rewrite."""

    def __init__(self, sidecar):
        self.sidecar = sidecar
        self.path = next(sidecar.store.parent.glob(f"rheostat-{sidecar.port}.toml"))
        self.first = self.path.read_text()

    def write(self, text):
        self.path.write_text(text)

    @property
    def status(self):
        return self.sidecar.ready()["config"]


async def test_a_tier_given_a_budget_live_is_decided_by_it_from_then_on(good):
    await asyncio.to_thread(wait_until, lambda: good.ready()["bundle"] == "good")
    configured = Configured(good)
    configured.write(f"{configured.first}\n[tier.balanced]\ntarget_accuracy = 0.85\nmean_cost_usd = 0.0001\n")
    await asyncio.to_thread(wait_until, lambda: configured.status["applied"] == 1)
    assert b'"rule":"budget"' in (await post(good))[2]
    configured.write(configured.first)
    await asyncio.to_thread(wait_until, lambda: configured.status["applied"] == 2)
    assert b'"rule":"budget"' not in (await post(good))[2]


@pytest.fixture
def configured(tmp_path, engines):
    with running(Sidecar(tmp_path, engines[:1])) as sidecar:
        yield Configured(sidecar)


async def test_backends_join_and_leave_under_load_without_a_failed_request(configured, engines):
    statuses, stop = Counter(), asyncio.Event()

    async def client(session):
        while not stop.is_set():
            status, _, _ = await post(configured.sidecar, session)
            statuses[status] += 1

    def with_backends(*names):
        text = configured.first
        start = text.index("[[backend]]")
        rest = text[text.index("[store]") :]
        urls = {"b0": engines[0].url, "b1": engines[1].url}
        return text[:start] + "".join(BACKEND.format(name=name, url=urls[name]) for name in names) + rest

    async with aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session)) for _ in range(6)]
        for number, (names, used) in enumerate([(("b0", "b1"), engines[1]), (("b1",), engines[1]), (("b0",), engines[0])], 1):
            before = used.calls
            configured.write(with_backends(*names))
            await asyncio.to_thread(wait_until, lambda n=number: configured.status["applied"] == n)
            await asyncio.to_thread(wait_until, lambda used=used, before=before: used.calls > before + 5)
        stop.set()
        await asyncio.gather(*clients)
    assert set(statuses) == {200}


async def test_a_model_that_joins_live_is_decided_about_at_its_own_price(bundle_sidecar, folder, engines):
    actions = {"pocket/direct@100": (0.4, 100.0), "large/direct@100": (0.95, 100.0)}
    put(write_bundle(folder / "joining" / "bundle", version="joining", actions=actions), bundle_sidecar.served)
    await asyncio.to_thread(wait_until, lambda: bundle_sidecar.ready()["bundle"] == "joining")
    configured = Configured(bundle_sidecar)
    large = f'[[backend]]\nname = "l"\nurl = "{engines[1].url}"\nmodel = "large"\nusd_per_1m_output = 50.0\n'
    configured.write(f"{configured.first}\n{large}")

    def told():
        request = urllib.request.Request(f"{bundle_sidecar.url}/v1/decide", json.dumps(CHAT | {"model": "auto"}).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {each["action"]: each for each in json.load(answer)["explanation"]["predictions"]}

    await asyncio.to_thread(wait_until, lambda: told()["large/direct@100"]["admissible"])
    await asyncio.to_thread(wait_until, lambda: told()["large/direct@100"]["cost_usd"] > 0.004)
    assert told()["pocket/direct@100"]["cost_usd"] < 0.0002
    configured.write(configured.first)
    await asyncio.to_thread(wait_until, lambda: not told()["large/direct@100"]["admissible"])


async def test_a_config_with_an_error_keeps_the_old_one_and_says_why(configured):
    configured.write("[srver]\n" + configured.first)
    configured.sidecar.child.send_signal(signal.SIGHUP)
    await asyncio.to_thread(wait_until, lambda: configured.status["error"])
    assert "unknown key srver" in configured.status["error"]
    assert (await post(configured.sidecar))[0] == 200
    configured.write(configured.first.replace("[server]", "[server]\nmax_in_flight = 7"))
    await asyncio.to_thread(wait_until, lambda: "takes a restart" in (configured.status["error"] or ""))
    assert metric(configured.sidecar, "rheostat_config_reloads_total", result="refused") == 2
    configured.write(configured.first + "\n[congestion]\nweight = 3.0\n")
    await asyncio.to_thread(wait_until, lambda: configured.status == {"applied": 1, "error": None})

"""Nothing that was answered is lost, nothing that was spent is unseen."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time

import aiohttp
import pytest

from rheostat.data.outcomes import OutcomeReader
from tests.serving import garbage
from tests.serving.conftest import ROOT, Engine, Sidecar, running, wait_until

VOTES = "pocket/self_consistency(k=4)@800"
GROUP_COMMIT_S = 0.05
LONG = {"model": "pocket", "messages": garbage.MESSAGES, "max_tokens": 4_000}
CHAT = {"model": "auto", "messages": garbage.MESSAGES}


async def _until_killed(sidecar, answered, clients):
    """Ask until the sidecar is gone; `answered` gets (decision id, when) of every complete answer."""

    async def client(session):
        while True:
            try:
                async with session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT) as response:
                    told = (await response.json())["rheostat"]
            except (aiohttp.ClientError, OSError):
                return
            answered.append((told["decision_id"], time.monotonic()))

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))


async def test_a_kill_under_load_loses_at_most_the_last_group_commit(tmp_path, engine):
    answered = []
    with running(Sidecar(tmp_path, [engine])) as sidecar:
        load = asyncio.create_task(_until_killed(sidecar, answered, clients=8))
        await asyncio.to_thread(wait_until, lambda: len(answered) >= 200)
        killed = time.monotonic()
        sidecar.child.send_signal(signal.SIGKILL)
        await load
        sidecar.stop(signal.SIGKILL)
    with running(Sidecar(tmp_path, [engine])), OutcomeReader(sidecar.store) as store:
        # The group that was being committed may hold as much again as one group's time on a busy disk.
        lost = [at for decision_id, at in answered if store.outcome(decision_id) is None]
        assert all(at > killed - 10 * GROUP_COMMIT_S for at in lost)
        assert len(lost) < len(answered) / 2
    with sqlite3.connect(sidecar.store) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_stop_drains_what_is_in_flight_and_exits_with_zero(tmp_path):
    with running(Engine(tmp_path, model="pocket", options=("--token-s", "0.01"))) as slow, running(Sidecar(tmp_path, [slow])) as sidecar:
        async with aiohttp.ClientSession() as session:
            asked = asyncio.create_task(session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT))
            await asyncio.to_thread(wait_until, lambda: slow.running)
            sidecar.child.send_signal(signal.SIGTERM)
            response = await asked
            decision_id = (await response.json())["rheostat"]["decision_id"]
        assert await asyncio.to_thread(sidecar.child.wait, 30) == 0
        with OutcomeReader(sidecar.store) as store:
            assert store.outcome(decision_id).status == "ok"


async def test_what_a_stop_cuts_short_is_booked_to_the_last_token(tmp_path):
    with (
        running(Engine(tmp_path, model="pocket", options=("--token-s", "0.05"))) as slow,
        running(Sidecar(tmp_path, [slow], server="drain_s = 1.0")) as sidecar,
    ):
        async with aiohttp.ClientSession() as session:
            asked = [asyncio.create_task(session.post(f"{sidecar.url}/v1/chat/completions", json=LONG)) for _ in range(8)]
            await asyncio.to_thread(wait_until, lambda: slow.running == len(asked))
            sidecar.child.send_signal(signal.SIGTERM)
            await asyncio.gather(*asked, return_exceptions=True)
        assert await asyncio.to_thread(sidecar.child.wait, 30) == 0
        await asyncio.to_thread(wait_until, lambda: slow.running == 0)
        with OutcomeReader(sidecar.store) as store:
            rows = list(store.rows_after(0, 100))
            assert store.counts().decisions == len(rows) == len(asked)
        assert {row.outcome.status for row in rows} == {"client_cancelled"}
        assert sum(row.outcome.ledger.generated for row in rows) == slow.generated > 0


async def test_the_ledgers_add_up_to_the_engines_own_counter(tmp_path):
    options = ("--fault", "truncate", "--every", "5")
    with running(Engine(tmp_path, model="pocket", options=options)) as engine, running(Sidecar(tmp_path, [engine])) as sidecar:
        variants = [
            {},
            {"stream": True},
            {"rheostat": {"action": VOTES}},
            {"model": "pocket", "n": 2},
            {"rheostat": {"action": VOTES}, "stream": True},
        ]
        async with aiohttp.ClientSession() as session:

            async def ask(fields):
                async with session.post(f"{sidecar.url}/v1/chat/completions", json={**CHAT, **fields}) as response:
                    await response.read()

            await asyncio.gather(*(ask(variants[i % len(variants)]) for i in range(60)))
        assert await asyncio.to_thread(sidecar.stop) == 0
        with OutcomeReader(sidecar.store) as store:
            rows = list(store.rows_after(0, 10_000))
        assert len(rows) >= 60
        assert sum(row.outcome.ledger.generated for row in rows if row.outcome) == engine.generated


async def test_prompts_are_kept_only_as_configured(tmp_path, engine):
    for setting, text, hashed, answer in (("full", True, True, True), ("hash", False, True, False), ("off", False, False, False)):
        with running(_Private(tmp_path, engine, setting)) as sidecar:
            async with aiohttp.ClientSession() as session:
                response = await session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT)
                decision_id = (await response.json())["rheostat"]["decision_id"]
            assert await asyncio.to_thread(sidecar.stop) == 0
        with OutcomeReader(sidecar.store) as store:
            decision, outcome = store.decision(decision_id), store.outcome(decision_id)
        assert (bool(decision.prompt_text), bool(decision.prompt_sha256), bool(outcome.answer)) == (text, hashed, answer)
        if setting != "full":
            assert b"2 plus 3" not in sidecar.store.read_bytes()


class _Private(Sidecar):
    def __init__(self, folder, engine, setting):
        self.setting = setting
        super().__init__(folder, [engine], store=f"{setting}.db", store_prompts=setting)


def run_server(*arguments):
    command = [sys.executable, "-m", "rheostat.serving.server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)


def test_a_second_sidecar_on_the_same_store_says_so(sidecar, tmp_path):
    config = tmp_path / "r.toml"
    config.write_text(f'[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n[store]\npath = "{sidecar.store}"\n')
    done = run_server("--config", str(config))
    assert done.returncode == 1
    assert str(sidecar.store) in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[servr]\n", "unknown key servr"),
        ('[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "m"\napi_key_env = "NOT_SET_ANYWHERE"\n', "NOT_SET_ANYWHERE"),
    ],
)
def test_a_wrong_config_is_one_sentence(tmp_path, text, says):
    (tmp_path / "r.toml").write_text(text)
    done = run_server("--config", str(tmp_path / "r.toml"))
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sidecar_imports_nothing_that_only_training_needs():
    code = "import sys, rheostat.serving.server; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=90, check=True)
    heavy = {"mlflow", "sklearn", "polars", "pyarrow", "plotly", "torch", "transformers", "sentence_transformers", "pandas"}
    assert not heavy & set(done.stdout.split())

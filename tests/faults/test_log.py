"""Disks that fill up, stores that are locked, prompts that would break a log: nothing half-visible, nothing lost, ids unique."""

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys

import aiohttp
import pytest

from rheostat.data.outcomes import OutcomeReader
from tests.faults.conftest import FaultyEngine, Stack, post
from tests.serving.conftest import ROOT, Sidecar, running, wait_until

N = 30
JUMPING = """
import pathlib, runpy, sys, time
real = time.time
offset = pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).with_name("rheostat.offset")
time.time = lambda: real() + float(offset.read_text() or 0)
runpy.run_module("rheostat.serving.server", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def engine(folder):
    with running(FaultyEngine(folder, model="pocket")) as started:
        yield started


@pytest.fixture
def logged(tmp_path, engine):
    more = f'[log]\nrequests = "{tmp_path / "requests.jsonl"}"\n'
    with running(Sidecar(tmp_path, [engine], more=more)) as sidecar:
        yield Stack(sidecar, engine)


async def ask(sidecar, n, **fields):
    """Decision ids of `n` answers, all of which must come."""
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(post(sidecar, session, **fields) for _ in range(n)))
    assert {status for status, _, _ in answers} == {200}
    return [json.loads(body)["rheostat"]["decision_id"] for _, _, body in answers]


def missing(sidecar, ids):
    with OutcomeReader(sidecar.store) as store:
        return [decision_id for decision_id in ids if store.decision(decision_id) is None or store.outcome(decision_id) is None]


async def test_a_full_disk_fails_no_request_and_all_is_written_once_there_is_room(logged):
    ids = await ask(logged.sidecar, N)
    await asyncio.to_thread(wait_until, lambda: not missing(logged.sidecar, ids))
    child = logged.sidecar.child.pid
    # No file may grow from here on: for the process that is a disk without room.
    _, most = resource.prlimit(child, resource.RLIMIT_FSIZE)
    resource.prlimit(child, resource.RLIMIT_FSIZE, (4096, most))
    ids += await ask(logged.sidecar, N)
    await asyncio.to_thread(wait_until, lambda: not logged.sidecar.ready()["store"]["healthy"])
    assert logged.metric("rheostat_store_healthy") == 0
    ids += await ask(logged.sidecar, N)
    resource.prlimit(child, resource.RLIMIT_FSIZE, (most, most))
    await asyncio.to_thread(wait_until, lambda: logged.sidecar.ready()["store"]["healthy"] and not missing(logged.sidecar, ids))
    assert len(set(ids)) == 3 * N
    assert logged.metric("rheostat_store_dropped") == 0


async def test_a_stop_that_cannot_write_its_records_says_how_many_and_ends_with_status_one(logged):
    child = logged.sidecar.child.pid
    resource.prlimit(child, resource.RLIMIT_FSIZE, (4096, resource.prlimit(child, resource.RLIMIT_FSIZE)[1]))
    await ask(logged.sidecar, 1)
    assert await asyncio.to_thread(logged.sidecar.stop) == 1
    told = logged.sidecar.log.read_text()
    assert "2 records could not be written" in told
    assert "StoreError" not in told  # no traceback of it; whatever measures the process may have one of its own, for want of room


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_logged_and_counted_by_what_the_client_got_with_the_engine_that_failed(logged, tmp_path, stream):
    logged.engines[0].does("error_500")
    assert (await post(logged.sidecar, stream=stream))[0] == 503
    logged.engines[0].does("ok")
    assert logged.metric("rheostat_requests_total", path="chat", status="503") == 1
    assert logged.metric("rheostat_requests_total", path="chat", status="200") == 0
    await asyncio.to_thread(wait_until, (tmp_path / "requests.jsonl").exists)
    line = json.loads((tmp_path / "requests.jsonl").read_text())
    assert {"status": 503, "error": "upstream_unavailable", "backend": "b0", "upstream_status": 500}.items() <= line.items()


async def test_a_store_that_another_process_locks_waits_in_memory(logged):
    await ask(logged.sidecar, 1)
    other = sqlite3.connect(logged.sidecar.store, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ids = await ask(logged.sidecar, N)
    assert logged.sidecar.ready()["ready"]
    other.execute("ROLLBACK")
    other.close()
    await asyncio.to_thread(wait_until, lambda: not missing(logged.sidecar, ids), 60)


def test_a_place_that_takes_no_store_is_one_sentence_and_status_one(tmp_path, engine):
    config = tmp_path / "r.toml"
    config.write_text(f'[[backend]]\nname = "a"\nurl = "{engine.url}"\nmodel = "pocket"\n[store]\npath = "/proc/rheostat/outcomes.db"\n')
    command = [sys.executable, "-m", "rheostat.serving.server", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert done.returncode == 1
    assert "/proc/rheostat" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_prompt_with_line_ends_and_terminal_codes_stays_one_line_and_one_record(logged, tmp_path):
    text = "first\r\nx-evil: 1\r\n\r\n\x1b[2J\x1b]0;gone\x07 2 plus 3"
    (decision_id,) = await ask(logged.sidecar, 1, messages=[{"role": "user", "content": text}])
    await asyncio.to_thread(wait_until, lambda: not missing(logged.sidecar, [decision_id]))
    with OutcomeReader(logged.sidecar.store) as store:
        assert store.decision(decision_id).prompt_text == text
    path = tmp_path / "requests.jsonl"
    await asyncio.to_thread(wait_until, lambda: path.exists() and decision_id.encode() in path.read_bytes())
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    (line,) = [line for line in lines if line.get("decision_id") == decision_id]
    assert (line["status"], line["outcome"], line["tenant"]) == (200, "ok", "default")
    assert b"\x1b" not in path.read_bytes()


class Jumping(Sidecar):
    """A sidecar whose clock a file sets off by so many seconds."""

    program = ("-c", JUMPING)


async def test_a_clock_that_jumps_loses_nothing_and_repeats_no_id(tmp_path, engine):
    offset = tmp_path / "rheostat.offset"
    offset.write_text("0")
    ids = []
    with running(Jumping(tmp_path, [engine])) as sidecar:
        for jump_s in (0, -3_600, 90_000, -86_400 * 400):
            offset.write_text(str(jump_s))
            ids += await ask(sidecar, N)
        assert await asyncio.to_thread(sidecar.stop) == 0
    with OutcomeReader(sidecar.store) as store:
        outcomes = [store.outcome(decision_id) for decision_id in ids]
        assert store.counts().decisions == len(set(ids)) == len(ids)
        assert len({store.decision(decision_id).created_s // 3_000 for decision_id in ids}) >= 4  # the clock did jump
    assert all(outcome.status == "ok" and 0 <= outcome.latency_s < 60 for outcome in outcomes)


async def test_every_request_has_one_line_and_ids_stay_unique_after_a_restart(tmp_path, engine):
    path = tmp_path / "requests.jsonl"
    more = f'[log]\nrequests = "{path}"\n'
    ids = []
    for _ in range(2):
        with running(Sidecar(tmp_path, [engine], more=more)) as sidecar:
            ids += await ask(sidecar, N)
            assert await asyncio.to_thread(sidecar.stop) == 0
    assert len(set(ids)) == 2 * N
    logged = [json.loads(line).get("decision_id") for line in path.read_bytes().splitlines()]
    assert sorted(logged) == sorted(ids)
    assert missing(sidecar, ids) == []

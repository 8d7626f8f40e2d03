"""The load, the measuring and the page of the serving benchmark, on the fake upstream and on one that fails."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import lightgbm
import msgspec
import numpy as np
import pytest

from benchmarks.serving import page
from benchmarks.serving.gateways import BARE, DIRECT, LEAST, PASS_THROUGH, Gateway, Place, bodies, slow_stream
from benchmarks.serving.least import Decision, LeastRouter
from benchmarks.serving.load import closed_loop, open_loop, request, streams
from benchmarks.serving.measure import CLIENTS, STREAMS, Row
from benchmarks.serving.run import measure
from benchmarks.serving.upstream import ANSWER, CHUNKS, Upstream, whole
from rheostat.training.results_page import replaced
from tests.training.make import word_level_encoder

TINY_S = 0.05


class InPieces(Upstream):
    def answer(self, request):
        for at in range(0, len(ANSWER), 50):
            asyncio.get_running_loop().call_soon(self.transport.write, ANSWER[at : at + 50])


class Refusing(Upstream):
    def answer(self, request):
        self.transport.write(whole(b"busy").replace(b"200 OK", b"503 Busy"))


class Cutting(Upstream):
    def answer(self, request):
        self.transport.close()


@asynccontextmanager
async def served(protocol: type[Upstream]):
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def upstream():
    async with served(Upstream) as port:
        yield port


def asked(port: int) -> list[bytes]:
    return [request(port, body) for body in bodies("model-0")]


def results(*rows: Row) -> page.Results:
    return page.Results(
        command="run", cores=2, pinned=(0, 1), rounds=3, seconds=1.0, load_average=(0.1, 2.0), learner="LightGBM", rows=list(rows)
    )


async def test_a_closed_loop_counts_every_answer_and_fails_none(upstream):
    window = await closed_loop(upstream, asked(upstream), clients=4, seconds=TINY_S)
    assert len(window.latencies_s) >= 4
    assert window.failed == 0
    assert 0 < window.quantile_us(0.5) <= window.quantile_us(0.99)
    assert window.per_s == pytest.approx(len(window.latencies_s) / window.seconds)


async def test_an_open_loop_sends_as_many_as_its_rate_says_whatever_comes_back(upstream):
    window = await open_loop(upstream, asked(upstream), rate=200, seconds=0.2)
    assert len(window.latencies_s) == 40


async def test_every_chunk_of_every_stream_is_timed_once(upstream):
    window = await streams(upstream, request(upstream, slow_stream("model-0")), clients=3, seconds=TINY_S)
    assert len(window.latencies_s) == 3 * CHUNKS
    assert min(window.latencies_s) > 0


async def test_an_answer_in_pieces_is_one_answer():
    async with served(InPieces) as port:
        window = await closed_loop(port, asked(port), clients=1, seconds=TINY_S)
    assert window.latencies_s
    assert window.failed == 0


async def test_an_error_is_counted_and_its_time_is_not():
    async with served(Refusing) as port:
        window = await closed_loop(port, asked(port), clients=2, seconds=TINY_S)
    assert window.failed >= 2
    assert window.latencies_s == []


async def test_a_connection_that_is_cut_fails_the_load_and_hangs_nothing():
    async with served(Cutting) as port:
        with pytest.raises(ConnectionResetError):
            await closed_loop(port, asked(port), clients=1, seconds=TINY_S)


def test_requests_are_as_large_as_said_and_their_questions_differ():
    sent = bodies("auto")
    assert {round(len(request(80, body)) / 1000, 1) for body in sent} == {4.4}
    assert len({json.loads(body)["messages"][-1]["content"] for body in sent}) == len(sent)


async def test_a_sidecar_is_measured_next_to_the_upstream_and_what_is_missing_says_so(tmp_path):
    def missing(place: Place):
        return place.program("no-such-gateway")

    rows = await measure(Place(tmp_path, upstream=0), [BARE, PASS_THROUGH, Gateway("missing", missing)], rounds=1, seconds=TINY_S)
    direct, bare, ours, none = rows
    assert [row.name for row in rows] == [DIRECT.name, BARE.name, PASS_THROUGH.name, "missing"]
    assert bare.failed == 0
    assert set(bare.added_p50_us) == {str(clients) for clients in CLIENTS}
    assert none == Row(name="missing", note="not installed")
    assert set(direct.added_p50_us.values()) == {0.0}
    assert ours.failed == 0
    assert set(ours.added_p50_us) == {str(clients) for clients in CLIENTS}
    assert ours.rss_mib > 20
    assert ours.chunk_cpu_us >= 0


@pytest.fixture
def least_bundle(tmp_path):
    """Two actions, of which the trees like the second one."""
    word_level_encoder(tmp_path / "bundle" / "encoder", ["walk", "?"])
    rows = np.array([[0.0, 0.0, number % 2] for number in range(200)])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, lightgbm.Dataset(rows, rows[:, -1]), 5)
    booster.save_model(tmp_path / "bundle" / "booster-0.txt")
    (tmp_path / "bundle" / "bundle.json").write_bytes(msgspec.json.encode({"actions": ["cheap", "dear"]}))
    return tmp_path / "bundle"


def test_the_least_router_asks_the_cheapest_action_that_is_good_enough_and_logs_it(least_bundle):
    log = io.BytesIO()
    router = LeastRouter(0, Decision(least_bundle), log)
    sent = json.loads(router.rewritten({"headers": []}, bodies("auto")[0]))
    assert sent == json.loads(bodies("auto")[0]) | {"model": "model-1"}
    assert json.loads(log.getvalue())["action"] == 1


def test_the_least_router_lets_nobody_in_without_the_key(least_bundle):
    router = LeastRouter(0, Decision(least_bundle), io.BytesIO())
    with pytest.raises(PermissionError):
        router.rewritten({"headers": [(b"authorization", b"Bearer another")]}, bodies("auto")[0])


async def test_the_least_router_is_measured_where_there_is_a_bundle_for_it(tmp_path, least_bundle):
    place = Place(tmp_path, upstream=0, bundles={"static": least_bundle})
    _, measured = await measure(place, [LEAST], rounds=1, seconds=TINY_S)
    assert measured.failed == 0
    assert measured.per_s > 0
    _, without = await measure(Place(tmp_path, upstream=0), [LEAST], rounds=1, seconds=TINY_S)
    assert without == Row(name=LEAST.name, note="decides with --encoder static")


def test_the_page_has_a_column_a_gateway_and_says_what_was_not_installed():
    measured = Row(name="fast", added_p50_us={"1": 1234.4}, per_s=2500.0)
    text = page.section(results(measured, Row(name="gone", note="not installed")))
    assert "|  | fast | gone |" in text
    assert "| added p50, clients: 1 | 1,234 | not installed |" in text
    assert f"{STREAMS} streams" in text
    assert "latencies are left out" not in text


def test_the_page_of_a_busy_machine_has_no_latencies():
    busy = msgspec.structs.replace(
        results(Row(name="fast", per_core_s=2500.0), Row(name="gone", note="not installed")), load_average=(9.0, 9.0)
    )
    text = page.section(busy)
    assert "latencies are left out" in text
    assert "added p50" not in text
    assert "| requests/s of core time | 2,500 | not installed |" in text


def test_writing_the_section_again_changes_nothing_and_leaves_the_neighbours():
    new = page.section(results(Row(name="fast")))
    once = replaced("# Results\n\n## Logged tables\n\nold\n\n## Serving\n\nold\n\n## Last\n\nend\n", new)
    assert replaced(once, new) == once
    assert once.count("## Serving") == 1
    assert once.startswith("# Results\n\n## Logged tables\n\nold\n\n")
    assert once.endswith("## Last\n\nend\n")
    assert replaced("# Results\n", new) == f"# Results\n\n{new}"


def test_a_program_given_by_path_is_taken(tmp_path):
    program = tmp_path / "nginx"
    program.touch(mode=0o755)
    place = Place(tmp_path, upstream=0, programs={"nginx": program})
    assert place.program("nginx") == str(program)
    with pytest.raises(FileNotFoundError, match="not installed"):
        replace(place, programs={"nginx": tmp_path / "none"}).program("nginx")

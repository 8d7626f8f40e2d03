import asyncio
import signal
import sys
from collections import Counter

import pytest
from aiohttp import web

from rheostat.data.errors import ConfigError, StoreError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.samples import read_samples
from rheostat.data.schema import Attempt, Query
from rheostat.data.tasks import load_tasks
from rheostat.policies.base import Completion, Generation
from rheostat.training.collect import collect, export, summary
from rheostat.training.samplers import Sampler

TASKS = [Query.of_text(f"What is {i} + 1?", query_id=f"q{i}", kind="number", reference=str(i + 1), dataset="sums") for i in range(6)]
COT = Sampler(model="m", strategy="cot", temperature=0.8, k=5, max_tokens=16)
DIRECT = Sampler(model="m", strategy="direct", temperature=0.0, k=1, max_tokens=4)


class Scripted:
    """A backend that answers 3, fails where `fails` says so, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, fails=lambda request, call: None):
        self.fails = fails
        self.asked = []
        self.in_flight = self.most_in_flight = self.generated = 0

    async def generate(self, request, book):
        self.asked.append(request)
        self.in_flight += request.n
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= request.n
        self.generated += 7 * request.n
        error = self.fails(request, len(self.asked))
        ledger = Ledger(calls=1, wasted=7 * request.n) if error else Ledger(calls=1, prompt=9, completion=7 * request.n)
        attempt = Attempt(model="m", kind="completion", status="failed" if error else "ok", ledger=ledger, latency_s=0.1, n=request.n)
        book.book(attempt)
        if error:
            raise error
        text = "1+2=3. The answer is 3."
        return Generation(
            completions=tuple(Completion(index=i, text=text, completion_tokens=7, mean_logprob=-0.1) for i in range(request.n)),
            attempt=attempt,
        )

    async def close(self):
        pass


def stored(path):
    with OutcomeReader(path) as reader:
        return list(reader.samples())


async def run(path, backends, samplers=(COT, DIRECT), tasks=TASKS, **options):
    return await collect(tasks, samplers, {"m": backends}, path, backoff_s=0.0, **options)


async def test_every_sample_of_every_task_is_stored_and_graded(tmp_path):
    collected = await run(tmp_path / "s.db", [Scripted()])
    samples = stored(tmp_path / "s.db")
    assert collected.stored == len(samples) == 6 * 6
    assert {s.correct for s in samples if s.query_id == "q2"} == {1.0}
    assert {s.correct for s in samples if s.query_id != "q2"} == {0.0}
    assert {(s.strategy, s.sample_index) for s in samples} == {("cot", i) for i in range(5)} | {("direct", 0)}
    assert {(s.answer, s.gold, s.kind, s.mean_logprob) for s in samples if s.query_id == "q4"} == {("3", "5", "number", -0.1)}


async def test_another_verifier_grades_the_answers_and_may_read_whole_replies(tmp_path):
    class Steps:
        name, reads_reply, is_slow = "steps", True, False

        def verify(self, question, answer, reference, kind):
            return float("1+2=3" in answer)

    await run(tmp_path / "s.db", [Scripted()], verifier=Steps())
    assert {s.correct for s in stored(tmp_path / "s.db")} == {1.0}


async def test_ledger_of_a_run_is_what_the_backends_generated_failed_calls_included(tmp_path):
    backends = [
        Scripted(lambda request, call: UpstreamError("no", backend="b", retryable=True) if call % 3 == 0 else None) for _ in range(2)
    ]
    collected = await run(tmp_path / "s.db", backends)
    assert collected.ledger.generated == sum(backend.generated for backend in backends)
    assert collected.ledger.wasted > 0


async def test_a_second_run_asks_for_nothing(tmp_path):
    await run(tmp_path / "s.db", [Scripted()])
    again = Scripted()
    collected = await run(tmp_path / "s.db", [again])
    assert again.asked == []
    assert (collected.stored, collected.skipped) == (0, 36)


async def test_more_samples_later_ask_only_for_those_missing(tmp_path):
    await run(tmp_path / "s.db", [Scripted()], [COT])
    again = Scripted()
    await run(tmp_path / "s.db", [again], [Sampler(model="m", strategy="cot", temperature=0.8, k=8, max_tokens=16)])
    assert {request.n for request in again.asked} == {3}
    assert len(stored(tmp_path / "s.db")) == 6 * 8


async def test_a_call_that_fails_at_times_is_tried_again_and_none_is_lost(tmp_path):
    flaky = Scripted(lambda request, call: UpstreamError("busy", backend="b", retryable=True) if call % 2 else None)
    collected = await run(tmp_path / "s.db", [flaky])
    assert (collected.stored, collected.failures) == (36, ())


async def test_a_call_that_always_fails_is_given_up_and_reported(tmp_path):
    dead = Scripted(lambda request, call: UpstreamError("dead", backend="b", retryable=True))
    collected = await run(tmp_path / "s.db", [dead], [COT])
    assert collected.stored == 0
    assert sum(failure.n for failure in collected.failures) == 30
    assert set(Counter(request.seed for request in dead.asked).values()) == {5}
    assert "run again to retry" in summary(collected)
    assert "dead" in summary(collected)


async def test_a_model_whose_backends_only_fail_is_left_and_all_its_samples_are_reported(tmp_path):
    dead = [Scripted(lambda request, call: UpstreamError("dead", backend="b", retryable=True)) for _ in range(2)]
    collected = await run(tmp_path / "s.db", dead, [COT], concurrency=5, patience_s=0.0)
    assert sum(failure.n for failure in collected.failures) == 30
    assert sum(len(backend.asked) for backend in dead) < 6


async def test_a_refusal_is_not_tried_again(tmp_path):
    strict = Scripted(lambda request, call: UpstreamError("too long", backend="b", status=400))
    collected = await run(tmp_path / "s.db", [strict], [COT])
    assert len(strict.asked) == len(collected.failures) == 6


async def test_a_healthy_replica_does_the_work_of_a_dead_one(tmp_path):
    dead = Scripted(lambda request, call: UpstreamError("dead", backend="b", retryable=True))
    collected = await collect(TASKS, [COT], {"m": [dead, Scripted()]}, tmp_path / "s.db", backoff_s=0.01)
    assert (collected.stored, collected.failures) == (30, ())


@pytest.mark.parametrize("room", [5, 7, 12, 64])
async def test_samples_in_flight_stay_within_the_room_of_a_backend(tmp_path, room):
    backend = Scripted()
    await run(tmp_path / "s.db", [backend], concurrency=room)
    assert backend.most_in_flight <= room


async def test_the_same_seed_asks_the_same_and_another_seed_does_not(tmp_path):
    asked = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        backend = Scripted()
        await run(tmp_path / name, [backend], seed=seed)
        asked.append({request.seed for request in backend.asked})
    assert asked[0] == asked[1]
    assert asked[0].isdisjoint(asked[2])


async def test_a_capable_backend_of_one_model_is_not_held_up_by_a_dead_one_of_another(tmp_path):
    dead = Scripted(lambda request, call: UpstreamError("dead", backend="b", retryable=True))
    other = Sampler(model="other", strategy="cot", temperature=0.8, k=5, max_tokens=16)
    backends = {"m": [Scripted()], "other": [dead]}
    collected = await collect(TASKS, [COT, other], backends, tmp_path / "s.db", backoff_s=0.0, patience_s=0.0)
    assert (collected.stored, {failure.model for failure in collected.failures}) == (30, {"other"})


async def test_progress_counts_up_to_the_total(tmp_path):
    seen = []
    await run(tmp_path / "s.db", [Scripted()], on_progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].tokens) == (36, 36, 36 * 7)
    assert seen[-1].left_s == 0.0
    assert seen[-1].tokens_per_s > 0


async def test_a_reply_with_too_few_samples_is_a_failure_of_the_rest(tmp_path):
    class Short(Scripted):
        async def generate(self, request, book):
            generation = await super().generate(request, book)
            return Generation(completions=generation.completions[:2], attempt=generation.attempt)

    collected = await run(tmp_path / "s.db", [Short()], [COT])
    assert (collected.stored, sum(f.n for f in collected.failures)) == (12, 18)


async def test_a_model_without_a_backend_is_refused_before_anything_is_spent(tmp_path):
    with pytest.raises(ConfigError, match="no backend for model 'm'"):
        await collect(TASKS, [COT], {"other": [Scripted()]}, tmp_path / "s.db")


async def test_a_store_that_takes_no_samples_stops_the_run(tmp_path, monkeypatch):
    from rheostat.data.store import OutcomeStore

    monkeypatch.setattr(OutcomeStore, "put", lambda self, record: False)
    backend = Scripted()
    with pytest.raises(StoreError, match="free some disk"):
        await run(tmp_path / "s.db", [backend], concurrency=5)
    assert len(backend.asked) < 6


@pytest.mark.parametrize(("what", "value"), [("healthy", property(lambda self: False)), ("flush", lambda self, timeout_s: False)])
async def test_samples_that_do_not_reach_the_disk_are_an_error(tmp_path, monkeypatch, what, value):
    from rheostat.data.store import OutcomeStore

    monkeypatch.setattr(OutcomeStore, what, value)
    with pytest.raises(StoreError, match=r"free some|run again"):
        await run(tmp_path / "s.db", [Scripted()])


def test_a_long_log_is_exported_page_by_page(tmp_path, monkeypatch):
    from rheostat.training import collect as module

    asyncio.run(collect(TASKS, [COT], {"m": [Scripted()]}, tmp_path / "s.db"))
    monkeypatch.setattr(module, "EXPORT_PAGE", 7)
    assert export(tmp_path / "s.db", tmp_path / "log.parquet", TASKS, [COT]) == 30


def test_two_exports_of_equal_samples_are_equal_files(tmp_path):
    for name in ("a", "b"):
        tasks = TASKS if name == "a" else TASKS[::-1]
        asyncio.run(collect(tasks, [COT, DIRECT], {"m": [Scripted()]}, tmp_path / f"{name}.db"))
        assert export(tmp_path / f"{name}.db", tmp_path / f"{name}.parquet", TASKS, [COT, DIRECT]) == 36
    first, second = (read_samples(tmp_path / f"{name}.parquet") for name in "ab")
    assert first.equals(second)


async def test_a_corrected_reference_or_question_is_collected_anew_and_told_without_the_old_one(tmp_path):
    path, log = tmp_path / "s.db", tmp_path / "log.parquet"
    await run(path, [Scripted()], [COT])
    first, _, *rest = TASKS
    changed = [
        Query.of_text(first.text, query_id="q0", kind="number", reference="3", dataset="sums"),
        Query.of_text("What is 4 - 2?", query_id="q1", kind="number", reference="2", dataset="sums"),
        *rest,
    ]
    collected = await run(path, [Scripted()], [COT], tasks=changed)
    assert (collected.stored, collected.skipped, collected.changed) == (10, 20, 2)
    assert (collected.graded["m"].right, collected.graded["m"].samples) == (10, 30)
    again = await run(path, [Scripted()], [COT], tasks=changed)
    assert (again.stored, again.skipped) == (0, 30)
    for tasks in (changed, TASKS):
        assert export(path, log, tasks, [COT]) == 30
        told = {(row["query_id"], row["query_text"], row["gold"]) for row in read_samples(log).iter_rows(named=True)}
        assert told == {(task.query_id, task.text, task.reference) for task in tasks}


async def test_only_the_queries_and_samplers_that_were_asked_for_are_exported(tmp_path):
    path, log = tmp_path / "s.db", tmp_path / "log.parquet"
    await run(path, [Scripted()])
    few = Sampler(model="m", strategy="cot", temperature=0.8, k=2, max_tokens=16)
    assert export(path, log, TASKS[:3], [few]) == 6
    told = read_samples(log)
    assert set(told["query_id"]) == {"q0", "q1", "q2"}
    assert set(zip(told["strategy"], told["sample_index"], strict=True)) == {("cot", 0), ("cot", 1)}


def chat(n):
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    choice = {
        "message": {"role": "assistant", "content": "The answer is 3."},
        "finish_reason": "stop",
        "logprobs": {"content": [token] * 4},
    }
    return {"choices": [{"index": i, **choice} for i in range(n)], "usage": {"prompt_tokens": 5, "completion_tokens": 4 * n}}


def command(url, store):
    module = [sys.executable, "-m", "rheostat", "collect", "--backend", f"m={url}", "--store", str(store), "--concurrency", "8"]
    return [*module, "--tasks", "pocket", "--n", "40", "--sampler", "cot:0.8:8"]


async def start(url, store):
    return await asyncio.create_subprocess_exec(*command(url, store), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)


async def test_after_a_kill_nothing_stored_is_asked_for_again_and_nothing_is_missing(serve, tmp_path):
    asked, midway, path = [], asyncio.Event(), tmp_path / "s.db"

    async def handler(request):
        body = await request.json()
        asked.append(body["seed"])
        if len(asked) == 20:
            midway.set()
        return web.json_response(chat(body["n"]))

    url = await serve(handler)
    process = await start(url, path)
    await midway.wait()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    tasks, sampler = load_tasks("pocket", n=40), Sampler.parse("cot:0.8:8", "m")
    bases = {task.query_id: sampler.base_seed(task, 0) for task in tasks}
    there = {bases[sample.query_id] + sample.sample_index for sample in stored(path)}
    before = len(asked)
    resumed = await start(url, path)
    assert await resumed.wait() == 0
    assert there.isdisjoint(asked[before:])
    assert len(stored(path)) == 40 * 8


async def test_ctrl_c_closes_the_call_upstream_and_keeps_what_came(serve, tmp_path):
    hanging, closed = asyncio.Event(), asyncio.Event()
    answered = []

    async def handler(request):
        body = await request.json()
        if len(answered) < 3:
            answered.append(body)
            return web.json_response(chat(body["n"]))
        hanging.set()
        try:
            return await asyncio.Future()
        finally:
            closed.set()

    process = await start(await serve(handler), tmp_path / "s.db")
    await hanging.wait()
    process.send_signal(signal.SIGINT)
    _, printed = await process.communicate()
    await asyncio.wait_for(closed.wait(), 10)
    assert process.returncode == 130
    assert b"goes on from there" in printed
    assert b"Traceback" not in printed
    assert len(stored(tmp_path / "s.db")) == 3 * 8


async def test_the_command_exits_1_and_says_what_is_missing(serve, tmp_path):
    async def handler(request):
        return web.Response(status=400, text="no such model")

    process = await start(await serve(handler), tmp_path / "s.db")
    _, printed = await process.communicate()
    assert process.returncode == 1
    assert b"320 samples failed in 40 calls" in printed

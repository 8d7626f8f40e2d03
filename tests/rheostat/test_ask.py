"""Asking one question: spellings are completed, evidence is shown, the answer and its price are told."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from contextlib import contextmanager

import pytest
from aiohttp import web
from rich.console import Console
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.commands.ask import complete
from rheostat.commands.ask_view import sample_table, search_tree
from rheostat.data.errors import ActionError
from rheostat.policies.base import Candidate, Evidence, Step
from rheostat.policies.fake_server import FakeServer


@contextmanager
def fake_engine():
    """A fake server on a thread of its own; gives its address and itself."""
    server, loop, ready = FakeServer(["pocket"]), asyncio.new_event_loop(), threading.Event()
    urls = []

    async def serve():
        runner = web.AppRunner(server.app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield urls[0], server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def asked(tmp_path):
    with fake_engine() as (url, server):
        config = tmp_path / "rheostat.toml"
        config.write_text(f'[[backend]]\nname = "pocket"\nurl = "{url}"\nmodel = "pocket"\n')

        def ask(*options):
            return CliRunner().invoke(app, ["ask", "What is 3+4?", "--config", str(config), "--state", str(tmp_path), *options])

        yield ask, server


@pytest.mark.parametrize("question", ["", "  \n"])
def test_a_question_without_a_word_is_refused(question):
    result = CliRunner().invoke(app, ["ask", question])

    assert result.exit_code == 2
    assert "nothing in it" in result.stderr


def test_the_answer_its_reason_and_all_its_tokens_are_told_as_json(asked):
    ask, server = asked
    told = json.loads(ask("--strategy", "self_consistency(k=5)", "--json", "-").stdout)
    assert told["action"] == "pocket/self_consistency(k=5)@1024"
    assert told["generated_tokens"] == server.generated_tokens > 0
    assert (told["stop_reason"], len(told["candidates"])) == ("complete", 5)
    assert told["candidates"][told["chosen"]]["answer"] == told["answer"]


@pytest.mark.parametrize("strategy", ["cot", "self_consistency(k=4,waves=2)", "beam(width=2,expand=2,depth=2,by=logprob,step_tokens=9)"])
def test_the_answer_is_printed_and_the_evidence_shown_apart_from_it(asked, strategy):
    ask, _ = asked
    result = ask("--strategy", strategy, "--show")
    assert result.exit_code == 0
    assert "generated tokens" in result.stdout
    assert "; " in result.stderr


def test_the_same_seed_gives_the_same_answer(asked):
    ask, _ = asked
    told = [json.loads(ask("--strategy", "mcts(sims=4,step_tokens=9)", "--seed", "3", "--json", "-").stdout) for _ in range(2)]
    assert told[0]["candidates"] == told[1]["candidates"]


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ("cot", "a/cot@64"),
        ("b/cot", "b/cot@64"),
        ("cot@9", "a/cot@9"),
        ("org/b/best_of_n(n=2)@9", "org/b/best_of_n(n=2)@9"),
        ("cascade(stages=direct@8>b/cot)", "a/cascade(stages=direct@8>b/cot)@64"),
    ],
)
def test_a_model_and_a_cap_are_filled_in_where_they_are_missing(given, action):
    assert str(complete(given, ("a", "b"), 64)) == action


def test_what_cannot_be_built_is_refused_before_anything_is_asked():
    with pytest.raises(ActionError, match="unknown strategy"):
        complete("magic", ("a",), 64)


def rendered(view):
    console = Console(file=io.StringIO(), width=160)
    console.print(view)
    return console.file.getvalue()


CANDIDATES = (
    Candidate(index=0, model="m", text="4+3=7. " * 40, answer="7", tokens=9, score=0.5),
    Candidate(index=1, model="m", text="[red]", answer=None, tokens=3),
)


def test_samples_are_shown_with_the_chosen_one_marked_and_no_markup_of_theirs():
    shown = rendered(sample_table(Evidence(candidates=CANDIDATES, chosen=0, why="1 of 2 votes", planned=4), "m/cot@9"))
    assert "2 of 4; 1 of 2 votes" in shown
    assert "[red]" in shown
    assert "..." in shown


def test_a_search_is_shown_as_the_tree_it_is():
    steps = (
        Step(index=0, parent=-1, text="first", score=0.25, state="kept", visits=3),
        Step(index=1, parent=0, text="", state="ended"),
    )
    shown = rendered(search_tree(Evidence(candidates=CANDIDATES, chosen=1, why="best", planned=2, steps=steps), "m/mcts@9"))
    assert "0.25 3x first" in shown
    assert "(end)" in shown
    assert "now: no answer" in shown

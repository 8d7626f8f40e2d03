"""Collecting from the command line, on a fake engine: where it asks, what it counts and what it exports."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.commands.collect import _right
from rheostat.data.samples import read_samples
from rheostat.training.asked import Graded
from tests.rheostat.test_ask import fake_engine


@pytest.fixture
def collected(tmp_path):
    with fake_engine() as (url, server):
        tasks, log = tmp_path / "t.jsonl", tmp_path / "log.parquet"

        def collect(answers, *options):
            rows = [{"id": i, "question": f"What is {i}+{i}?", "answer": answer} for i, answer in enumerate(answers)]
            tasks.write_text("\n".join(map(json.dumps, rows)))
            fixed = ["--tasks", str(tasks), "--backend", f"pocket={url}", "--state", str(tmp_path), "--export", str(log)]
            result = CliRunner().invoke(app, ["collect", "--sampler", "cot:0.8:2", *fixed, *options])
            assert result.exit_code == 0, result.output
            return result, read_samples(log)

        yield collect, server, url


def test_an_answer_that_was_corrected_is_graded_anew_and_told_without_the_old_one(collected):
    collect, server, _ = collected
    collect([0, 1, 4])
    before = server.generated_tokens
    result, log = collect([0, 2, 4], "--json", "-")
    told = json.loads(result.stdout)

    assert (told["stored"], told["skipped"], told["changed"]) == (2, 4, 1)
    assert server.generated_tokens > before
    assert sorted(set(zip(log["query_id"], log["gold"], strict=True))) == [("0", "0"), ("1", "2"), ("2", "4")]
    assert told["graded"]["pocket"] == {"samples": 6, "graded": 6, "right": log["correct"].sum()}


def test_the_servers_asked_and_what_was_right_are_told(collected):
    collect, _, url = collected
    result, log = collect([0, 2])

    assert f"asking pocket={url}" in result.stderr
    assert f"{log['correct'].sum():g} of 4" in result.stdout


def test_a_log_holds_this_task_set_alone_whatever_else_is_in_the_store(collected):
    collect, _, _ = collected
    collect([0, 2, 4, 6])
    _, log = collect([0, 2], "--json", "-")

    assert len(log) == 4


def test_answers_that_could_not_be_graded_are_told_apart():
    assert _right(Graded(samples=5, graded=4, right=1.5)) == "1.5 of 4 (37.5%), 1 could not be graded"
    assert _right(Graded(samples=2)) == "0 of 0, 2 could not be graded"

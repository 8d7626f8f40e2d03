"""The sweep from the command line, on a fake engine: what it shows, stores and exports, and how it is refused."""

from __future__ import annotations

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.commands.sweep import _spelled
from rheostat.data.samples import read_samples
from tests.rheostat.test_ask import fake_engine


@pytest.fixture
def swept(tmp_path):
    with fake_engine() as (url, server):
        config = tmp_path / "rheostat.toml"
        config.write_text(f'[[backend]]\nname = "pocket"\nurl = "{url}"\nmodel = "pocket"\n')

        def sweep(*options, command="sweep"):
            fixed = ["--tasks", "pocket:addition,story", "--n", "6", "--config", str(config), "--state", str(tmp_path)]
            return CliRunner().invoke(app, [command, *options, *fixed])

        yield sweep, server, tmp_path


def test_actions_and_axes_are_told_with_intervals_and_exported(swept):
    sweep, server, folder = swept
    result = sweep("cot", "best_of_n(n=2,by=self)", "--axis", "samples=1,2,4", "--export", str(folder / "s.parquet"), "--json", "-")
    told = json.loads(result.stdout)

    assert [(each["action"], each["n"]) for each in told["actions"]] == [
        ("pocket/cot@1024", 6), ("pocket/best_of_n(by=self,n=2)@1024", 6),
        *((f"pocket/self_consistency(k={k})@{192 * k}", 6) for k in (1, 2, 4)),
    ]  # fmt: skip
    assert all(each["accuracy"]["low"] <= each["accuracy"]["value"] <= each["accuracy"]["high"] for each in told["actions"])
    assert [point["size"] for point in told["axes"][0]["points"]] == [1, 2, 4]
    log = pl.read_parquet(folder / "s.parquet")
    assert log["completion_tokens"].sum() == told["ledger"]["verifier"] + told["ledger"]["completion"] == server.generated_tokens


def test_a_second_sweep_generates_nothing_and_prints_the_tables(swept):
    sweep, server, _ = swept
    sweep("direct", "--axis", "rounds=1,2")
    before = server.generated_tokens
    again = sweep("direct", "--axis", "rounds=1,2")

    assert (again.exit_code, server.generated_tokens) == (0, before)
    assert "what more compute buys" in again.stdout
    assert "rounds (revisions)" in again.stdout


def test_a_sweep_with_failures_shows_what_came_and_says_so(swept):
    sweep, server, _ = swept
    server.faults = ("bad_request",)
    result = sweep("cot")

    assert result.exit_code == 1
    assert "6 runs failed" in result.stderr


def test_a_model_without_a_backend_is_named(swept):
    sweep, _, _ = swept
    assert "'other' has no backend" in str(sweep("cot", "--model", "other").exception)


def test_collect_runs_strategies_whole_into_its_store(swept):
    sweep, server, folder = swept
    result = sweep("--sampler", "cot:0.8:2", "--action", "mcts(sims=2)", "--json", "-", command="collect")
    told = json.loads(result.stdout)

    assert (told["stored"], told["actions"]["runs"], told["actions"]["failed"]) == (12, 6, 0)
    assert told["ledger"]["completion"] + told["actions"]["generated_tokens"] == server.generated_tokens
    again = sweep("--sampler", "cot:0.8:2", "--action", "mcts(sims=2)", "--json", "-", command="collect")
    assert json.loads(again.stdout)["actions"]["there_before"] == 6
    assert (folder / "samples.db").exists()


def test_collect_exports_samples_and_whole_runs_as_one_log(swept):
    sweep, _, folder = swept
    path = folder / "log.parquet"
    for _ in range(2):
        assert sweep("--sampler", "cot:0.8:2", "--action", "mcts(sims=2)", "--export", str(path), command="collect").exit_code == 0
        log = read_samples(path)
        assert sorted(log.group_by("strategy").len().iter_rows()) == [("cot", 12), ("mcts(sims=2)@1024", 6)]
        assert log.filter(log["strategy"] != "cot")["completion_tokens"].min() > 0


def test_collect_tells_a_misspelled_action_before_it_samples(swept):
    sweep, server, _ = swept
    result = sweep("--sampler", "cot:0.8:2", "--action", "mtcs(sims=2)", command="collect")

    assert "unknown strategy 'mtcs'" in str(result.exception)
    assert server.generated_tokens == 0


def test_collect_names_runs_that_failed(swept):
    sweep, server, _ = swept
    sweep("--sampler", "cot:0.8:2", command="collect")
    server.faults = ("bad_request",)
    result = sweep("--sampler", "cot:0.8:2", "--action", "mcts(sims=2)", command="collect")

    assert result.exit_code == 1
    assert "6 runs failed; run again to retry. First:" in result.stderr


def test_an_action_that_names_its_model_is_run_once_whatever_models_there_are():
    models = ("pocket", "pocket-large")
    assert list(map(str, _spelled(["pocket/cot@256"], models, 64))) == ["pocket/cot@256"]
    assert list(map(str, _spelled(["cot"], models, 64))) == ["pocket/cot@64", "pocket-large/cot@64"]


def test_collect_wants_the_key_that_its_backend_names_before_it_asks(swept):
    _sweep, server, folder = swept
    config = folder / "rheostat.toml"
    config.write_text(config.read_text() + 'api_key_env = "RHEOSTAT_TEST_KEY"\n')
    refused = CliRunner().invoke(app, ["collect", "--config", str(config), "--state", str(folder), "--n", "2"])

    assert "RHEOSTAT_TEST_KEY" in str(refused.exception)
    assert server.generated_tokens == 0

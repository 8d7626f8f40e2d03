"""Promoting with nothing but a state folder: the sidecar of that folder follows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.commands.common import CHAMPION_FOLDER, CONFIG, load_config
from rheostat.commands.loop import REFUSED, _follow, _keep_champion
from rheostat.data.outcomes import OutcomeReader
from rheostat.router.bundle import Bundle
from rheostat.serving.checkup import check_surroundings
from rheostat.serving.config import load
from rheostat.training.registry import Registry, Training
from rheostat.training.ship import NotAllShippedError
from rheostat.training.tracking_server import TrackingServer
from tests.training.conftest import write_store
from tests.training.make import bundle, table


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def register(uri: str, state: Path, name: str, *, knows: bool) -> None:
    registry = Registry(uri)
    made = bundle(state / name, knows=knows).with_version(name).save(state / name / "bundle")
    table().save(state / f"{name}.npz")
    registry.register(registry.log_training(Training(bundle_folder=made, evaluation={}, test_table=state / f"{name}.npz")))


def served(state: Path) -> str | None:
    """The version in the folder that a sidecar without a configuration follows."""
    config = load_config(CONFIG, state)
    assert config.router.bundle == str(state / CHAMPION_FOLDER)
    return Bundle.load(Path(config.router.bundle)).version if Path(config.router.bundle).exists() else None


def test_what_is_promoted_is_where_the_sidecar_looks_and_a_rollback_puts_the_other_back(state, tmp_path):
    with TrackingServer(tmp_path / "mlflow") as tracking:

        def run(*arguments: str, status: int = 0) -> str:
            result = CliRunner().invoke(app, [*arguments, "--state", str(state), "--tracking", tracking.uri])
            assert result.exit_code == status, result.output
            return result.stdout

        register(tracking.uri, state, "blind", knows=False)
        assert "None" not in run("promote", status=REFUSED)
        refused = json.loads(run("promote", "--json", "-", status=REFUSED))
        assert (refused["verdict"], refused["champion"]) == ("refused", None)
        assert served(state) is None
        run("promote", "--force")
        assert served(state) == "blind"
        register(tracking.uri, state, "wise", knows=True)
        run("promote")
        assert served(state) == "wise"
        assert "already champion" in run("promote")
        run("rollback")
        assert served(state) == "blind"


@pytest.mark.parametrize(
    ("section", "bundle"),
    [
        ("", CHAMPION_FOLDER),
        ('[router]\nbundle = "mine"\n', "mine"),
        ('[mlflow]\ntracking_uri = "http://127.0.0.1:9"\n', ""),
    ],
)
def test_a_configuration_that_names_neither_a_bundle_nor_an_mlflow_follows_the_champion_of_the_state_folder(section, bundle, tmp_path):
    file = tmp_path / "rheostat.toml"
    file.write_text('[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "a"\n' + section)
    assert Path(load_config(file, tmp_path).router.bundle).name == bundle


@pytest.mark.parametrize("command", ["promote", "rollback", "report"])
def test_where_nothing_was_trained_it_is_said_of_the_folder_and_nothing_is_made(state, command):
    result = CliRunner().invoke(app, [command, "--state", str(state)])
    assert str(state) in str(result.exception)
    assert "run" in str(result.exception)
    assert not state.exists()


def test_before_there_is_a_champion_the_doctor_says_how_to_make_one(state):
    (look, *_) = asyncio.run(check_surroundings(load_config(CONFIG, state), environ={}))
    assert (look.part, look.state) == ("bundle", "off")
    assert "train and promote" in look.do


@pytest.mark.parametrize(("uri", "is_said"), [("sqlite:///mlflow.db", True), ("http://127.0.0.1:5000", False)])
def test_where_no_sidecar_can_follow_it_is_said(state, capsys, uri, is_said):
    Path("rheostat.toml").write_text('[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "m"\n')
    _follow(SimpleNamespace(uri=uri, champion=lambda: object()), load(Path("rheostat.toml")), state)
    assert ("no sidecar follows" in capsys.readouterr().err) is is_said


class Moving:
    """A registry whose champion moves on while its files are fetched; a bundle is one file with its number."""

    def __init__(self) -> None:
        self.number = 0

    def champion(self) -> int | None:
        return self.number or None

    def download(self, version: int, folder: Path) -> Path:
        made = folder / "bundle"
        made.mkdir(parents=True)
        (made / "manifest.json").write_text(str(version))
        return made


def test_of_champions_that_are_put_there_at_once_the_last_one_stays(tmp_path):
    registry, folder = Moving(), tmp_path / CHAMPION_FOLDER

    def promoted() -> None:
        for _ in range(50):
            registry.number += 1
            _keep_champion(registry, folder)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(promoted) for _ in range(3)]:
            done.result()
    assert (folder / "manifest.json").read_text() == str(registry.number)


def test_what_a_kill_left_between_two_champions_is_cleared_away(tmp_path):
    registry, folder = Moving(), tmp_path / CHAMPION_FOLDER
    registry.number = 1
    (tmp_path / f".{CHAMPION_FOLDER}-new" / "bundle").mkdir(parents=True)
    _keep_champion(registry, folder)
    assert (folder / "manifest.json").read_text() == "1"
    assert not (tmp_path / f".{CHAMPION_FOLDER}-new").exists()


def test_shipping_shows_what_went_and_ends_with_what_did_not(state, tmp_path):
    path, shown = tmp_path / "s.db", tmp_path / "shown.json"
    write_store(path, 2)
    with OutcomeReader(path) as store:
        store.close_segment()
    write_store(path, 2, start=2)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET body = x'c1' WHERE seq = 1")
    with TrackingServer(tmp_path / "mlflow") as tracking:
        ended = CliRunner().invoke(app, ["ship", "--store", str(path), "--tracking", tracking.uri, "--json", str(shown)])
    assert isinstance(ended.exception, NotAllShippedError)
    assert [segment["rows"] for segment in json.loads(shown.read_text())] == [2]

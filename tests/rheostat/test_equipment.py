"""What a state folder holds is found, and never goes before what the configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from rheostat import equipment
from rheostat.data.schema import Action
from rheostat.policies.memory import EXAMPLES_FILE
from rheostat.serving.config import parse

PLAIN = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "a"\n'
NAMED = PLAIN + '[[reward]]\nname = "prm"\nurl = "http://127.0.0.1:2"\nmodel = "theirs"\n[tools]\nmemory = "m"\nverifier = "v"\n'


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(equipment, "_engine_url", lambda *_: "http://127.0.0.1:3")
    (tmp_path / equipment.LEARNED_FOLDER).mkdir()
    (tmp_path / equipment.MEMORY_FOLDER).mkdir()
    (tmp_path / equipment.MEMORY_FOLDER / EXAMPLES_FILE).touch()
    return tmp_path


def test_an_empty_state_folder_adds_nothing(tmp_path: Path) -> None:
    found = equipment.equipped(parse(PLAIN), tmp_path)

    assert found.reward == ()
    assert (found.tools.memory, found.tools.verifier) == ("", "")


def test_what_the_state_folder_holds_is_used(state: Path) -> None:
    found = equipment.equipped(parse(PLAIN), state)

    assert [(each.name, each.kind, each.model, each.url) for each in found.reward] == [
        ("prm", "process", "pocket-prm", "http://127.0.0.1:3"),
        ("likely", "likelihood", "pocket-large", "http://127.0.0.1:3"),
    ]
    assert (found.tools.memory, found.tools.verifier) == (str(state / "memory"), str(state / "verifier"))


def test_what_is_configured_stays(state: Path) -> None:
    found = equipment.equipped(parse(NAMED), state)

    assert [(each.name, each.url) for each in found.reward] == [("prm", "http://127.0.0.1:2"), ("likely", "http://127.0.0.1:3")]
    assert (found.tools.memory, found.tools.verifier) == ("m", "v")


def test_only_the_tools_that_actions_use_are_kept(state: Path) -> None:
    def kept(spelling: str, *, compares: bool = False) -> tuple[bool, bool, str]:
        config, action = equipment.equipped(parse(PLAIN), state), Action.parse(f"a/{spelling}@90")
        tools = equipment.equipped_for([action], config, state, compares=compares, memory=None, encoder="static").tools
        return bool(tools.memory), bool(tools.verifier), tools.encoder

    assert kept("cot") == (False, False, "")
    assert kept("few_shot(k=2)") == (True, False, "static")
    assert kept("best_of_n(n=2,by=orm)") == (False, True, "")
    assert kept("self_consistency(k=2)", compares=True) == (False, False, "static")

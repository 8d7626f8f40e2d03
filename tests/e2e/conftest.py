"""The real thing, started once a session: two vLLM engines, an MLflow server, a trained champion, a sidecar.

The demo itself is the fixture: it runs with a few queries and leaves everything running for the tests that follow.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rheostat.demonstration import Demonstration, Result, stop_kept


@dataclass(frozen=True)
class Stack:
    """Where everything is, and what the demo said on the way."""

    state: Path
    url: str
    config: dict[str, Any]
    result: Result
    said: list[str]

    @property
    def engines(self) -> dict[str, str]:
        """URL by model."""
        return {backend["model"]: backend["url"] for backend in self.config["backend"]}

    @property
    def store(self) -> Path:
        """The sidecar's store."""
        return Path(self.config["store"]["path"])

    @property
    def mlflow(self) -> str:
        """The tracking URI."""
        return str(self.config["mlflow"]["tracking_uri"])


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    try:
        result = Demonstration(state, n_queries=30, seed=0, say=said.append).run(keep=True)
        config = tomllib.loads((state / "rheostat.toml").read_text())
        yield Stack(state, f"http://127.0.0.1:{config['server']['port']}", config, result, said)
    finally:
        stop_kept(state)

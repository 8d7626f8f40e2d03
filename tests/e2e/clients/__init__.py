"""Programs that are clients of a sidecar, each a process of its own, and what they need to run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NPM_FILES = ("package.json", "package-lock.json", "npm.mjs")
OLDEST_NODE = 20


def told_by_litellm(url: str, bias: dict[str, int]) -> dict[str, Any]:
    """What LiteLLM saw of the sidecar under this base URL; it is kept from asking the network for prices."""
    command = [sys.executable, str(HERE / "with_litellm.py"), url, json.dumps(bias)]
    return _told(command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"})


def told_by_npm(url: str, bias: dict[str, int], folder: Path) -> dict[str, Any]:
    """What the openai npm package saw of the sidecar under this base URL, from where `install_npm` put it."""
    return _told(["node", str(folder / "npm.mjs"), url, json.dumps(bias)], {})


def install_npm(folder: Path) -> None:
    """The openai npm package of the lock file in a folder, unless it is there already."""
    require_node()
    folder.mkdir(parents=True, exist_ok=True)
    installed = folder / "node_modules" / "openai" / "package.json"
    lock = (HERE / "package-lock.json").read_bytes()
    kept = folder / "package-lock.json"
    is_there = installed.exists() and kept.exists() and kept.read_bytes() == lock
    for name in NPM_FILES:
        shutil.copyfile(HERE / name, folder / name)
    if not is_there:
        command = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
        _run(command, cwd=folder, timeout_s=600)


def require_node() -> None:
    """Say what to install where node is missing or too old."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if not missing:
        version = _run(["node", "--version"], cwd=HERE, timeout_s=60).strip()
        if int(version.lstrip("v").partition(".")[0]) >= OLDEST_NODE:
            return
        missing = [f"a newer node than {version}"]
    raise RuntimeError(
        f"the openai npm package is a client to test with: install node {OLDEST_NODE} or newer with npm (missing: {missing})"
    )


def _told(command: list[str], more_environ: dict[str, str]) -> dict[str, Any]:
    said = _run(command, cwd=HERE, timeout_s=300, environ={**os.environ, **more_environ})
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    return told


def _run(command: list[str], *, cwd: Path, timeout_s: float, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:] or done.stdout[-2000:]}")
    return done.stdout

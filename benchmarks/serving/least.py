"""The least router there can be on uvicorn, aiohttp and LightGBM: the bare proxy that knows keys, decides and logs. A yardstick.

    python benchmarks/serving/least.py --port 9001 --upstream 9000 --bundle FOLDER --log FILE

What it adds is what this machine takes for deciding in Python at all: no limits, no books, no checks, no calibration, one
model behind. Reads the files of a bundle, but imports nothing of the project.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import lightgbm
import msgspec
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.serving.bare import BareProxy, serve

KEY = b"a-key"  # that requests of the benchmark are taken to hold
KEYS = {hashlib.sha256(KEY).hexdigest(): "tenant"}
TARGET = 0.5


class Decision:
    """Static embedding, a row an action, one call of LightGBM, and the cheapest action that seems good enough."""

    def __init__(self, bundle: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(bundle / "encoder" / "tokenizer.json"))
        (table,) = load_file(bundle / "encoder" / "model.safetensors").values()
        self._table = table.astype(np.float32)
        self._booster = lightgbm.Booster(model_file=str(bundle / "booster-0.txt"))
        n_actions = len(msgspec.json.decode((bundle / "bundle.json").read_bytes())["actions"])
        self._rows = np.zeros((n_actions, self._booster.num_feature()))
        self._rows[:, -1] = np.arange(n_actions)
        self._n_columns = min(self._table.shape[1], self._rows.shape[1] - 1)

    def __call__(self, text: str) -> int:
        """The number of an action."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        mean = self._table[tokens].mean(axis=0)
        self._rows[:, : self._n_columns] = mean[: self._n_columns] / np.linalg.norm(mean)
        good = np.flatnonzero(self._booster.predict(self._rows, num_threads=1) >= TARGET)
        return int(good[0]) if len(good) else len(self._rows) - 1


class LeastRouter(BareProxy):
    """The bare proxy with a key to be held, a decision and a line in a log."""

    def __init__(self, upstream: int, decide: Decision, log: BinaryIO) -> None:
        super().__init__(upstream)
        self._decide, self._log = decide, log

    def rewritten(self, scope: Any, body: bytes) -> bytes:
        """The body for the model that was chosen."""
        if not body:
            return body
        held = dict(scope["headers"]).get(b"authorization", KEY).removeprefix(b"Bearer ")
        digest = hashlib.sha256(held).hexdigest()
        if not any(hmac.compare_digest(digest, key) for key in KEYS):
            raise PermissionError("no such key")
        asked = msgspec.json.decode(body)
        action = self._decide(asked["messages"][-1]["content"])
        self._log.write(msgspec.json.encode({"time_s": time.time(), "tenant": KEYS[digest], "action": action}) + b"\n")
        return msgspec.json.encode(asked | {"model": f"model-{action}"})


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    with given.log.open("ab") as log:
        serve(LeastRouter(given.upstream, Decision(given.bundle), log), given.port)


if __name__ == "__main__":
    main()

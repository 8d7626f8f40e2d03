"""The versioned artefact the sidecar loads: a folder of LightGBM text, npz, JSON and a manifest of SHA-256 hashes.

    manifest.json    schema version; size and hash of every other file
    bundle.json      version, actions, encoder, learners, stop rules, sequential policy, metrics
    arrays.npz       every array, loaded without pickle
    booster-*.txt    LightGBM models
    encoder/         the static encoder's files, where that is the encoder

Nothing is parsed before its hash is right: a damaged LightGBM file ends the process that reads it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BundleError
from rheostat.data.npz import read_npz
from rheostat.data.schema import SCHEMA_VERSION, Action
from rheostat.router.arrays import predictor_arrays, predictor_from
from rheostat.router.base import Array, Encoder, FeatureRow
from rheostat.router.courses import Plan, plan_arrays, plan_from
from rheostat.router.encoder import StaticEncoder, copy_static, load_encoder
from rheostat.router.guard import Guard
from rheostat.router.held_out import HeldOut, held_out_arrays, held_out_from
from rheostat.router.lexicon import Lexicon, with_lexicon
from rheostat.router.predictor import Predictor
from rheostat.router.stopping import StopModel, stop_arrays, stops_from

MANIFEST = "manifest.json"
MAX_FILE_BYTES = 512 * 1024 * 1024
CANARY_TOLERANCE = 1e-6
CHECK_TIMEOUT_S = 60.0
_LEXICON = "lexicon.table"
_SUFFIXES = (".json", ".npz", ".txt", ".safetensors")


@dataclass(frozen=True)
class Bundle:
    """Everything a decision needs. Immutable; one is swapped for the next as a whole.

    Attributes:
        version: what decisions are labelled with.
        actions: the catalogue, in the order of every array.
        encoder_id: the weights the features were made with.
        guard: answers queries far from the training support.
        held_out: what multiplier paths and promises are computed from.
        canary: (m, d) feature rows, and `canary_p` (m, a) what the predictor gave for them when it was fitted.
        training_digest: of the outcome table.
        metrics: of the held-out evaluation.
        encoder_folder: a static encoder to take along, None for any other.
        lexicon: of the training texts, None where the encoder has no tokens or the texts were too few.
        stops: learned stop rules by action; an action without one stops as the published rule does.
        plan: the sequential policy, None where it was not worth having.
    """

    version: str
    actions: tuple[Action, ...]
    encoder_id: str
    encoder_name: str
    predictor: Predictor
    guard: Guard
    held_out: HeldOut
    canary: FeatureRow
    canary_p: Array
    training_digest: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    encoder_folder: Path | None = None
    lexicon: Lexicon | None = None
    stops: Mapping[str, StopModel] = field(default_factory=dict)
    plan: Plan | None = None

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder the bundle was fitted with, its lexicon included.

        Raises:
            BundleError: the weights on this machine are others.
        """
        encoder: Encoder = StaticEncoder(self.encoder_folder) if self.encoder_folder else load_encoder(self.encoder_name)
        if encoder.encoder_id != self.encoder_id:
            raise BundleError(f"bundle {self.version} was fitted with {self.encoder_id}, here is {encoder.encoder_id}: fit again")
        return with_lexicon(encoder, self.lexicon)

    def with_version(self, version: str) -> Bundle:
        """The same bundle under another version."""
        return replace(self, version=version)

    def save(self, folder: Path) -> Path:
        """Write the bundle; the folder appears whole or not at all.

        Raises:
            BundleError: the folder exists.
        """
        if folder.exists():
            raise BundleError(f"{folder} exists: bundles are never overwritten, choose another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bundle-"))
        try:
            self._write(scratch)
            scratch.chmod(0o755)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return folder

    def _write(self, folder: Path) -> None:
        arrays, texts, layout = predictor_arrays(self.predictor)
        arrays |= held_out_arrays(self.held_out)
        arrays |= {"guard.support": self.guard.support, "canary.rows": self.canary, "canary.p": self.canary_p}
        if self.lexicon is not None:
            arrays[_LEXICON] = self.lexicon.table.astype(np.float16)
        stops, stops_layout = stop_arrays(self.stops)
        plan, plan_layout = plan_arrays(self.plan) if self.plan else ({}, None)
        np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **arrays, **stops, **plan)
        for name, text in texts.items():
            (folder / name).write_text(text)
        if self.encoder_folder is not None:
            copy_static(StaticEncoder(self.encoder_folder), folder / "encoder")
        (folder / "bundle.json").write_text(json.dumps(self._header(layout) | {"stops": stops_layout, "plan": plan_layout}, indent=1))
        files = {path: _fingerprint(folder / path) for path in _files(folder)}
        (folder / MANIFEST).write_text(json.dumps({"schema_version": SCHEMA_VERSION, "files": files}, indent=1))

    def _header(self, layout: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": self.version,
            "actions": [str(action) for action in self.actions],
            "encoder": {"id": self.encoder_id, "name": self.encoder_name, "inside": self.encoder_folder is not None},
            "guard": {"limit": self.guard.limit, "action": self.guard.action},
            "predictor": layout,
            "training_digest": self.training_digest,
            "metrics": self.metrics,
        }

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and verify a bundle.

        Raises:
            BundleError: a file is missing, changed, foreign or not what it should be; the message says which and what to do.
        """
        verify(folder)
        try:
            header = json.loads((folder / "bundle.json").read_bytes())
            arrays = _load_arrays(folder / "arrays.npz")
            return _assemble(folder, header, arrays)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
            raise BundleError(f"bundle {folder} does not fit together ({error!r}): fit it again with this version") from error


def verify(folder: Path) -> None:
    """Check names, types, sizes and hashes of everything in a bundle folder before any of it is parsed.

    Raises:
        BundleError: something is not as the manifest says.
    """
    manifest = _read_manifest(folder)
    listed = manifest["files"]
    for path, entry in listed.items():
        _check_name(folder, path)
        _check_file(folder / path, entry)
    strays = [path for path in _files(folder) if path not in listed and path != MANIFEST]
    if strays:
        raise BundleError(f"bundle {folder} holds {strays[0]!r}, which its manifest does not list: remove it, or fetch the bundle again")
    for needed in ("bundle.json", "arrays.npz"):
        if needed not in listed:
            raise BundleError(f"bundle {folder} has no {needed}: fetch it again")


class NotCheckedError(BundleError):
    """A bundle of which nobody knows yet whether it is sound."""


def check_in_child(folder: Path, *, timeout_s: float = CHECK_TIMEOUT_S) -> None:
    """Load the bundle in a child process and let it predict its canary rows, so that a crash is the child's.

    Raises:
        NotCheckedError: the child took longer than the timeout, or was killed: on another day the bundle may pass.
        BundleError: the child failed or crashed.
    """
    command = [sys.executable, "-m", "rheostat.router.bundle", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotCheckedError(f"bundle {folder} was not checked within {timeout_s:g} s: keep the last good one, try again later") from error
    if done.returncode == -signal.SIGKILL:
        raise NotCheckedError(f"bundle {folder} was not checked, its child process was killed: is there memory for it?")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise BundleError(f"bundle {folder} failed in a child process (exit {done.returncode}): {said[-1] if said else 'it crashed'}")


def check_canary(bundle: Bundle) -> None:
    """Hold the predictor against what it gave when it was fitted.

    Raises:
        BundleError: it gives something else here.
    """
    worst = float(np.abs(bundle.predictor.p_correct(bundle.canary) - bundle.canary_p).max())
    if not worst <= CANARY_TOLERANCE:
        raise BundleError(f"bundle {bundle.version} is off by {worst:.2g} on its canary rows: other library versions? fit it again here")


def _assemble(folder: Path, header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Bundle:
    actions = tuple(Action.parse(spelling) for spelling in header["actions"])
    guard, encoder = header["guard"], header["encoder"]
    if not 0 <= guard["action"] < len(actions):
        raise ValueError(f"guard action {guard['action']} of {len(actions)}")
    held_out = held_out_from(arrays)
    predictor = predictor_from(arrays, header["predictor"], lambda name: (folder / name).read_text())
    widths = {held_out.p_correct.shape[1], held_out.reward.shape[1], arrays["canary.p"].shape[1]}
    if widths != {len(actions)}:
        raise ValueError(f"arrays of {sorted(widths)} actions, a catalogue of {len(actions)}")
    return Bundle(
        version=str(header["version"]),
        actions=actions,
        encoder_id=str(encoder["id"]),
        encoder_name=str(encoder["name"]),
        predictor=predictor,
        guard=Guard(arrays["guard.support"], float(guard["limit"]), int(guard["action"])),
        held_out=held_out,
        canary=arrays["canary.rows"],
        canary_p=arrays["canary.p"],
        training_digest=str(header["training_digest"]),
        metrics={str(name): float(value) for name, value in header["metrics"].items()},
        encoder_folder=folder / "encoder" if encoder["inside"] else None,
        lexicon=Lexicon(arrays[_LEXICON].astype(np.float32)) if _LEXICON in arrays else None,
        stops=stops_from(arrays, header["stops"], len(actions)),
        plan=plan_from(arrays, header["plan"], len(actions)) if header["plan"] else None,
    )


def _load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    arrays = read_npz(path)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"array {name} holds something other than finite numbers")
    return arrays


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}; fit one with `rheostat train`")
    try:
        manifest = json.loads(path.read_bytes())
        version, files = manifest["schema_version"], manifest["files"]
        entries_fit = all(isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int) for entry in files.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"the manifest of {folder} cannot be read ({error!r}): fetch the bundle again") from error
    if version != SCHEMA_VERSION:
        raise BundleError(f"bundle {folder} has schema version {version}, this program reads {SCHEMA_VERSION}: fit it again")
    if not entries_fit:
        raise BundleError(f"the manifest of {folder} lacks sizes or hashes: fetch the bundle again")
    return dict(manifest)


def _check_name(folder: Path, path: str) -> None:
    parts = Path(path).parts
    plain = path and not Path(path).is_absolute() and ".." not in parts and "\\" not in path and "\0" not in path
    if not plain or Path(path).suffix not in _SUFFIXES:
        raise BundleError(f"bundle {folder} lists {path!r}: only {', '.join(_SUFFIXES)} files inside it are allowed; do not use it")


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        raise BundleError(f"{path} is missing or is a link: fetch the bundle again")
    if path.stat().st_size != entry["bytes"] or entry["bytes"] > MAX_FILE_BYTES:
        raise BundleError(f"{path} has {path.stat().st_size} bytes, the manifest says {entry['bytes']}: fetch the bundle again")
    if _fingerprint(path)["sha256"] != entry["sha256"]:
        raise BundleError(f"{path} has another SHA-256 than the manifest says: fetch the bundle again")


def _files(folder: Path) -> Iterator[str]:
    """Everything in the folder that is not a plain folder, links included, relative and sorted."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _main(arguments: list[str]) -> None:
    try:
        check_canary(Bundle.load(Path(arguments[0])))
    except BundleError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    _main(sys.argv[1:])

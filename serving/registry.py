"""The champion bundle in MLflow, through its REST API: the sidecar never imports mlflow.

A model version is read by alias; its files are plain artifacts of the run that made it, under `bundle/`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import msgspec

from rheostat.data.errors import BundleError, RegistryError

ALIAS_PATH = "/api/2.0/mlflow/registered-models/alias"
LIST_PATH = "/api/2.0/mlflow/artifacts/list"
FILE_PATH = "/get-artifact"
BUNDLE_FOLDER = "bundle"
MAX_FILES = 200
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_DEPTH = 4
TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=3, sock_read=20)


class _Version(msgspec.Struct):
    version: str
    run_id: str = ""


class _ByAlias(msgspec.Struct):
    model_version: _Version


class _File(msgspec.Struct):
    path: str
    is_dir: bool = False
    file_size: int | str = 0


class _Listing(msgspec.Struct):
    files: list[_File] = []


class MlflowSource:
    """The version an alias of a registered model points to.

    Args:
        tracking_uri: HTTP address of the MLflow server.
        model: name of the registered model.
        alias: the alias to follow.
        token: sent as a bearer token.
    """

    def __init__(self, tracking_uri: str, *, model: str, alias: str, token: str | None = None) -> None:
        self._uri = tracking_uri.rstrip("/")
        self._model = model
        self._alias = alias
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._runs: dict[str, str] = {}

    async def latest(self) -> str | None:
        """The version behind the alias; None before the first promotion."""
        async with self._session() as session:
            body = await self._get(session, ALIAS_PATH, {"name": self._model, "alias": self._alias}, absent_ok=True)
        if body is None:
            return None
        found: _Version = _decode(body, _ByAlias).model_version
        self._runs = {found.version: found.run_id}
        return found.version

    async def fetch(self, version: str, folder: Path) -> None:
        """Download that version's files."""
        run_id = self._runs[version]
        if not run_id:
            raise BundleError(f"version {version} of {self._model} names no run: register it with `rheostat train`")
        async with self._session() as session:
            files = await self._files(session, run_id, BUNDLE_FOLDER, MAX_DEPTH)
            if not files:
                raise BundleError(f"run {run_id} of version {version} has no files under {BUNDLE_FOLDER}/")
            for file in files:
                await self._download(session, run_id, file.path, _inside(folder, file.path))

    async def _files(self, session: aiohttp.ClientSession, run_id: str, path: str, depth: int) -> list[_File]:
        body = await self._get(session, LIST_PATH, {"run_id": run_id, "path": path})
        found: list[_File] = []
        for entry in _decode(body or b"{}", _Listing).files:
            if not entry.is_dir:
                found.append(entry)
            elif depth > 0:
                found += await self._files(session, run_id, entry.path, depth - 1)
        if len(found) > MAX_FILES or any(int(file.file_size) > MAX_FILE_BYTES for file in found):
            raise BundleError(f"run {run_id} has more or larger files under {path} than a bundle has")
        return found

    async def _download(self, session: aiohttp.ClientSession, run_id: str, path: str, target: Path) -> None:
        body = await self._get(session, FILE_PATH, {"run_id": run_id, "path": path}) or b""
        await asyncio.to_thread(_write, target, body)

    async def _get(self, session: aiohttp.ClientSession, path: str, query: dict[str, str], *, absent_ok: bool = False) -> bytes | None:
        """The body of an answer; None for what is not there, where that is no error."""
        try:
            async with session.get(self._uri + path, params=query, allow_redirects=False) as response:
                body = await response.read()
                if response.status == 200:
                    return body
                if absent_ok and _is_absent(response.status, body):
                    return None
                raise RegistryError(f"MLflow at {self._uri} answered {response.status} to {path}: {body[:200]!r}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, RegistryError):
                raise
            raise RegistryError(f"MLflow at {self._uri} is out of reach: {error or type(error).__name__}") from error

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=TIMEOUT, headers=self._headers)


def _write(target: Path, body: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)


def _is_absent(status: int, body: bytes) -> bool:
    """MLflow answers 404 for an unknown model and 400 for a known one without the alias."""
    return status == 404 or (status == 400 and b"RESOURCE_DOES_NOT_EXIST" in body) or (status == 400 and b"alias" in body)


def _inside(folder: Path, path: str) -> Path:
    """Where an artifact goes; a path that leads out of the bundle is refused."""
    relative = PurePosixPath(path)
    if relative.parts[:1] != (BUNDLE_FOLDER,) or ".." in relative.parts or len(relative.parts) < 2 or "\\" in path or "\0" in path:
        raise BundleError(f"the artifact path {path!r} leads out of the bundle")
    return folder.joinpath(*relative.parts[1:])


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"MLflow sent something else than expected: {error}") from error

"""Promotion: the alias `champion` moves when the evidence says so, and the reason is written either way.

The champion is judged again on the challenger's own test queries, so both are compared on the same day and table. One that
cannot be read any more, as after an upgrade, serves nobody and has no say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rheostat.data.errors import BundleError, DatasetError, RegistryError
from rheostat.data.ledger import Price
from rheostat.router.bundle import Bundle
from rheostat.training.contest import Against, contest
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.registry import TEST_TABLE_FILE, Registry, Version


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a promotion decided. `champion` is the version the alias points to now."""

    promoted: bool
    challenger: int
    champion: int | None
    reason: str
    forced: bool = False
    against: tuple[Against, ...] = ()

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.promoted:
            return "promoted"
        return "already champion" if self.champion == self.challenger else "refused"


def promote(
    registry: Registry, challenger: int | None = None, *, prices: Mapping[str, Price], force: bool = False, seed: int = 0
) -> Verdict:
    """Make a version the champion if it beats the best fixed action and the champion; see `contest` for what that takes.

    Args:
        challenger: a version's number, also of one that was rolled back; None takes the newest, unless that was.
        prices: by model, as the sidecar has them.
        force: promote whatever the comparison says; it is still made, and written down.
        seed: of the bootstrap.

    Raises:
        RegistryError: MLflow is away, or has no such version.
        BundleError: the challenger cannot be loaded, also with `force`.
        DatasetError: the bundles cannot be compared on the challenger's test table.
    """
    version, current = _challenger(registry, challenger), registry.champion()
    if current is not None and current.version == version.version:
        reason = f"Version {version.version} is the champion already."
        return Verdict(promoted=False, challenger=version.version, champion=current.version, reason=reason)
    with tempfile.TemporaryDirectory() as folder:
        try:
            rival, unread = _champion(registry, current, Path(folder))
            results = _compare(registry, version, rival, Path(folder), prices, seed)
            won, reason = all(result.won for result in results), explain(version.version, current, results, unread)
        except (BundleError, DatasetError) as error:
            if not force:
                raise
            Bundle.load(registry.download(version, Path(folder, "again")))
            won, results, reason = False, [], f"Version {version.version} could not be compared: {error}"
    return _decide(registry, version, current, won=won, force=force, reason=reason, results=results)


def rollback(registry: Registry, reason: str = "rolled back by hand") -> Version:
    """Point the alias at the champion before this one.

    Raises:
        RegistryError: MLflow is away, or there was none before.
    """
    return registry.rollback(reason)


def explain(challenger: int, current: Version | None, results: list[Against], unread: str = "") -> str:
    """The verdict in a sentence, with the numbers of every comparison; `unread` is why the champion could not be read."""
    lost = [result for result in results if not result.won]
    head = f"Version {challenger}"
    if not lost:
        head += ", the first champion," if current is None else f", champion after version {current.version},"
        head += " which has no say," if unread else ""
    shown = "; it is ".join(result.shown for result in lost or results)
    return f"{head} is {shown}: {'; '.join(map(str, results))}." + (f" The champion until now cannot be read: {unread}" if unread else "")


def _challenger(registry: Registry, number: int | None) -> Version:
    version = registry.latest() if number is None else registry.version(number)
    if version is None:
        raise RegistryError(f"{registry.model} has no versions in {registry.uri}: run `rheostat train` first")
    if number is None and version.rolled_back is not None:
        why = version.rolled_back or "nobody said why"
        raise RegistryError(
            f"version {version.version}, the newest, was rolled back ({why}): train another, or name it to promote it again"
        )
    return version


def _champion(registry: Registry, current: Version | None, folder: Path) -> tuple[Bundle | None, str]:
    """The champion's bundle, or None and why it cannot be read."""
    if current is None:
        return None, ""
    try:
        return Bundle.load(registry.download(current, folder / "champion")), ""
    except BundleError as error:
        return None, str(error)


def _compare(
    registry: Registry, version: Version, champion: Bundle | None, folder: Path, prices: Mapping[str, Price], seed: int
) -> list[Against]:
    challenger = Bundle.load(registry.download(version, folder / "challenger"))
    test = OutcomeTable.load(registry.download_artifact(version.run_id, TEST_TABLE_FILE, folder))
    return contest(challenger, champion, test, prices, seed=seed)


def _decide(
    registry: Registry, version: Version, current: Version | None, *, won: bool, force: bool, reason: str, results: list[Against]
) -> Verdict:
    forced = force and not won
    reason = f"Forced. {reason}" if forced else reason
    if won or force:
        registry.set_champion(version.version, reason, forced=forced)
        champion: int | None = version.version
    else:
        registry.refuse(version.version, reason)
        champion = None if current is None else current.version
    return Verdict(
        promoted=won or force, challenger=version.version, champion=champion, reason=reason, forced=forced, against=tuple(results)
    )

"""What the arguments of strategies may be. Every check names the strategy, the value, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence

from rheostat.data.errors import ActionError

MAX_TEMPERATURE = 2.0  # the engine refuses more
MAX_SAMPLES = 256


def whole(strategy: str, name: str, value: int, *, low: int = 1, high: int = MAX_SAMPLES) -> int:
    """A whole number from `low` to `high`.

    Raises:
        ActionError: it is not.
    """
    if not low <= value <= high:
        raise ActionError(f"{strategy}({name}={value}) is out of range: {name} is from {low} to {high}")
    return value


def share_of_one(strategy: str, name: str, value: float) -> float:
    """A number above 0 and at most 1.

    Raises:
        ActionError: it is not.
    """
    if not 0.0 < value <= 1.0:
        raise ActionError(f"{strategy}({name}={value}) is out of range: {name} is above 0 and at most 1")
    return value


def spread(strategy: str, value: float) -> float:
    """A temperature that gives different samples.

    Raises:
        ActionError: it is 0, or more than the engine takes.
    """
    if not 0.0 < value <= MAX_TEMPERATURE:
        raise ActionError(
            f"{strategy}(temperature={value}) is out of range: above 0, at most {MAX_TEMPERATURE:g}; at 0 all samples are the same"
        )
    return value


def one_of(strategy: str, name: str, value: str, known: Sequence[str]) -> str:
    """One of the known words.

    Raises:
        ActionError: it is not.
    """
    if value not in known:
        raise ActionError(f"{strategy}({name}={value}) is unknown: known are {', '.join(known)}")
    return value


def measure(strategy: str, value: str, *, but: str = "") -> str:
    """The name of a measure: of a scorer that the operator may have called what they liked, or a built-in one.

    Raises:
        ActionError: it is no name, or the one that the strategy cannot use.
    """
    if not value.isidentifier() or value == but:
        raise ActionError(f"{strategy}(by={value}) is no measure it can use: write by=NAME, the name of a scorer")
    return value


def one_model(strategy: str, name: str, value: str) -> str:
    """The name of a model.

    Raises:
        ActionError: it is empty, or several.
    """
    if len(names(value)) != 1:
        raise ActionError(f"{strategy}({name}={value!r}) names no model: write {name}=MODEL")
    return value.strip()


def names(spelling: str) -> tuple[str, ...]:
    """The names of a spelling like `pocket+pocket-large`; the empty one has none."""
    return tuple(name.strip() for name in spelling.split("+") if name.strip())

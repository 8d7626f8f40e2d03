"""What a request's `model` means: a tier to route under, or one model to pass through to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rheostat.data.errors import RequestError
from rheostat.data.spelling import did_you_mean
from rheostat.serving.config import Config
from rheostat.serving.shapes import Model, Models

AUTO = "auto"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of the two is given."""

    tier: str | None = None
    model: str | None = None


def resolve(name: str, config: Config, *, may_name: Callable[[Target], bool]) -> Target:
    """`auto`, `auto:TIER` or a backend model's own name.

    Raises:
        RequestError: status 404, `param` model; the known names that the caller may use are listed.
    """
    target = _target(name, config)
    if target is None:
        raise not_served(name, names(config, may_name=may_name))
    return target


def not_served(name: str, known: Sequence[str]) -> RequestError:
    """The error of a name that is none of those known."""
    return RequestError(
        f"model: {name[:60]!r} is not served: {did_you_mean(name[:60], known)}known are {', '.join(known) or 'none, to this key'}",
        param="model",
        status=404,
        code="model_not_found",
    )


def names(config: Config, *, may_name: Callable[[Target], bool]) -> list[str]:
    """Every value of `model` that is served to the caller."""
    served = [AUTO, *(f"{AUTO}:{tier}" for tier in config.tier), *config.models]
    return [name for name in served if (target := _target(name, config)) is not None and may_name(target)]


def listing(config: Config, created_s: float, *, may_name: Callable[[Target], bool]) -> Models:
    """The answer of `/v1/models`: the names that the caller may use."""
    return Models(data=[told(name, created_s) for name in names(config, may_name=may_name)])


def told(name: str, created_s: float) -> Model:
    """One served name as `/v1/models` tells of it."""
    return Model(id=name, created=int(created_s))


def _target(name: str, config: Config) -> Target | None:
    if name == AUTO:
        return Target(tier=config.router.default_tier)
    if name.startswith(f"{AUTO}:") and name.removeprefix(f"{AUTO}:") in config.tier:
        return Target(tier=name.removeprefix(f"{AUTO}:"))
    return Target(model=name) if name in config.models else None

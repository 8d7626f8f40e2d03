"""What a request's `model` means: a tier to route under, or one model to pass through to."""

from __future__ import annotations

import msgspec

from rheostat.data.errors import RequestError
from rheostat.serving.config import Config
from rheostat.serving.shapes import Model, Models

AUTO = "auto"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of the two is given."""

    tier: str | None = None
    model: str | None = None


def resolve(name: str, config: Config) -> Target:
    """`auto`, `auto:TIER` or a backend model's own name.

    Raises:
        RequestError: status 404, `param` model; the known names are listed.
    """
    if name == AUTO:
        return Target(tier=config.router.default_tier)
    if name.startswith(f"{AUTO}:") and name.removeprefix(f"{AUTO}:") in config.tier:
        return Target(tier=name.removeprefix(f"{AUTO}:"))
    if name in config.models:
        return Target(model=name)
    raise RequestError(
        f"model: {name[:60]!r} is not served: known are {', '.join(names(config))}", param="model", status=404, code="model_not_found"
    )


def names(config: Config) -> list[str]:
    """Every value of `model` that is served."""
    return [AUTO, *(f"{AUTO}:{tier}" for tier in config.tier), *config.models]


def listing(config: Config, created_s: float) -> Models:
    """The answer of `/v1/models`."""
    return Models(data=[Model(id=name, created=int(created_s)) for name in names(config)])

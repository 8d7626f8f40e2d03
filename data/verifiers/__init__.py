"""Verifiers by name: an answer, or a whole reply, is held against a reference. The literal dict is the registry."""

from __future__ import annotations

from rheostat.data.errors import ConfigError
from rheostat.data.sandbox import Sandbox
from rheostat.data.verifiers.base import Verifier, grade, grade_aside
from rheostat.data.verifiers.code import SANDBOX_OFF, PythonTests
from rheostat.data.verifiers.comparing import Choice, Exact, Numeric, YesNo
from rheostat.data.verifiers.gym import GYM_PREFIX, GymReference, ReasoningGym, gym_dataset, gym_reference
from rheostat.data.verifiers.matching import JsonSchema, Latex, Regex

__all__ = [
    "GYM_PREFIX", "VERIFIERS", "Choice", "Exact", "GymReference", "JsonSchema", "Latex", "Numeric", "PythonTests",
    "ReasoningGym", "Regex", "Verifier", "YesNo", "grade", "grade_aside", "gym_dataset", "gym_reference", "verifier", "verifier_of",
]  # fmt: skip

VERIFIERS: dict[str, Verifier] = {
    "exact": Exact(),
    "numeric": Numeric(),
    "choice": Choice(),
    "yesno": YesNo(),
    "reasoning_gym": ReasoningGym(),
    "regex": Regex(),
    "latex": Latex(),
    "json_schema": JsonSchema(),
    "python_tests": PythonTests(),
}


def verifier(name: str, *, sandbox: Sandbox | None = None) -> Verifier:
    """The verifier of that name; one that runs code does so in `sandbox`.

    Raises:
        ConfigError: there is none, and the message lists those there are; or it runs code, and there is no sandbox.
    """
    if name not in VERIFIERS:
        raise ConfigError(f"unknown verifier {name!r}: use one of {', '.join(VERIFIERS)}")
    if name != PythonTests.name:
        return VERIFIERS[name]
    if sandbox is None:
        raise ConfigError(SANDBOX_OFF)
    return PythonTests(sandbox)


def verifier_of(dataset: str) -> Verifier:
    """The verifier that grades a data set: its own scorer for reasoning-gym, else exact."""
    return VERIFIERS["reasoning_gym" if dataset.startswith(GYM_PREFIX) else "exact"]

"""The catalogue: every strategy by name, and how an action is made into one. The literal dict is the registry."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action, ShapeValue
from rheostat.policies.base import Strategy
from rheostat.policies.direct import Cot, Direct
from rheostat.policies.sampling import BestOfN, SelfConsistency

STRATEGIES: Mapping[str, type[Any]] = {
    "direct": Direct,
    "cot": Cot,
    "self_consistency": SelfConsistency,
    "best_of_n": BestOfN,
}

DIRECT_TOKENS = 64
COT_TOKENS = 256
SAMPLE_TOKENS = 192  # a pocket model's chain takes 20 to 130, so the cap of k samples rarely binds

_ACCEPTED: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (int, float, str)}


def build(action: Action) -> Strategy:
    """The strategy an action names, with the arguments of its shape.

    Raises:
        ActionError: the strategy is unknown, or an argument is unknown, missing, of the wrong type or out of range.
    """
    strategy = STRATEGIES.get(action.strategy)
    if strategy is None:
        raise ActionError(f"unknown strategy {action.strategy!r} in {str(action)!r}: known are {', '.join(STRATEGIES)}")
    return cast(Strategy, strategy(**_arguments(action, strategy)))


def is_single_call(action: Action) -> bool:
    """Whether the action is one upstream call, whose bytes may be streamed straight through."""
    return bool(getattr(STRATEGIES.get(action.strategy), "single_call", False))


def default_actions(models: Sequence[str], *, votes: Sequence[int] = (4, 8, 16), picks: Sequence[int] = (4, 8)) -> list[Action]:
    """The actions a new installation starts with: for every model one terse call, one chain, votes and best-of-n."""
    return [action for model in models for action in _of_model(model, votes, picks)]


def _of_model(model: str, votes: Sequence[int], picks: Sequence[int]) -> list[Action]:
    return [
        Action(model, "direct", DIRECT_TOKENS),
        Action(model, "cot", COT_TOKENS),
        *(Action(model, "self_consistency", k * SAMPLE_TOKENS, (("k", k),)) for k in votes),
        *(Action(model, "best_of_n", n * SAMPLE_TOKENS, (("n", n),)) for n in picks),
    ]


def _arguments(action: Action, strategy: type[Any]) -> dict[str, ShapeValue]:
    known = inspect.signature(strategy).parameters
    given = action.arguments
    missing = [name for name, parameter in known.items() if parameter.default is parameter.empty and name not in given]
    wrong = [name for name, value in given.items() if name not in known or not _fits(value, known[name])]
    if missing or wrong:
        what = f"{'lacks ' + ', '.join(missing) if missing else 'cannot take ' + ', '.join(f'{n}={given[n]}' for n in wrong)}"
        raise ActionError(f"{str(action)!r} {what}: write {action.strategy}{_signature(known)}")
    return {name: str(value) if known[name].annotation == "str" else value for name, value in given.items()}


def _fits(value: ShapeValue, parameter: inspect.Parameter) -> bool:
    return isinstance(value, _ACCEPTED[str(parameter.annotation)])


def _signature(known: Mapping[str, inspect.Parameter]) -> str:
    return f"({', '.join(str(parameter) for parameter in known.values())})".replace("'", "")

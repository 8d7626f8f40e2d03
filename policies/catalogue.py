"""The catalogue: every strategy by name, and how an action is made into one. The literal dict is the registry."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action, ShapeValue
from rheostat.policies.base import Strategy
from rheostat.policies.beam import Beam
from rheostat.policies.cascade import Cascade
from rheostat.policies.compose import Compose
from rheostat.policies.direct import Cot, Direct, FewShot
from rheostat.policies.mcts import Mcts
from rheostat.policies.rounds import Refine, Verify
from rheostat.policies.sampling import BestOfN, SelfConsistency, WeightedVote
from rheostat.policies.token_beam import TokenBeam

STRATEGIES: Mapping[str, type[Any]] = {
    "direct": Direct,
    "cot": Cot,
    "few_shot": FewShot,
    "self_consistency": SelfConsistency,
    "weighted_vote": WeightedVote,
    "best_of_n": BestOfN,
    "refine": Refine,
    "verify": Verify,
    "token_beam": TokenBeam,
    "beam": Beam,
    "mcts": Mcts,
    "cascade": Cascade,
    "compose": Compose,
}


class Recipe(NamedTuple):
    """What an action is made of; `is_nested` where other actions are among its arguments."""

    strategy: type[Any]
    arguments: dict[str, ShapeValue]
    is_nested: bool


Shape = tuple[tuple[str, ShapeValue], ...]

DIRECT_TOKENS = 64
COT_TOKENS = 256
SAMPLE_TOKENS = 192  # a pocket model's chain takes 20 to 130, so the cap of k samples rarely binds

_ACCEPTED: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (int, float, str)}


def build(action: Action) -> Strategy:
    """The strategy an action names, with the arguments of its shape.

    Raises:
        ActionError: the strategy is unknown, or an argument is unknown, missing, of the wrong type or out of range.
    """
    strategy, arguments, is_nested = _recipe(action)
    return cast(Strategy, strategy(**arguments, build=build) if is_nested else strategy(**arguments))


@lru_cache(maxsize=1024)  # reading signatures takes a third of a millisecond, and a sidecar sees the same few actions
def _recipe(action: Action) -> Recipe:
    strategy = STRATEGIES.get(action.strategy)
    if strategy is None:
        raise ActionError(f"unknown strategy {action.strategy!r} in {str(action)!r}: known are {', '.join(STRATEGIES)}")
    # A strategy made of other actions is given the means to build them: it cannot import the catalogue it is in.
    return Recipe(strategy, _arguments(action, strategy), "build" in inspect.signature(strategy).parameters)


def is_single_call(action: Action) -> bool:
    """Whether the action is one upstream call, whose bytes may be streamed straight through; an unknown one is not."""
    try:
        return bool(getattr(build(action), "single_call", False))
    except ActionError:
        return False


def default_actions(
    models: Sequence[str], *, votes: Sequence[int] = (4, 8, 16), stops: Sequence[str] = ("",), picks: Sequence[int] = (4, 8)
) -> list[Action]:
    """The actions a new installation starts with: for every model one terse call, one chain, votes and best-of-n.

    Args:
        models: names of models.
        votes: numbers of samples to vote among.
        stops: stop rules of the votes, as in `beta(0.95)`; the empty one draws all samples.
        picks: numbers of samples to pick the likeliest of.
    """
    shapes: list[tuple[str, int, Shape]] = [("direct", DIRECT_TOKENS, ()), ("cot", COT_TOKENS, ())]
    shapes += [("self_consistency", k * SAMPLE_TOKENS, _vote_shape(k, stop)) for k in votes for stop in stops]
    shapes += [("best_of_n", n * SAMPLE_TOKENS, (("n", n),)) for n in picks]
    return [Action(model, strategy, max_tokens, shape) for model in models for strategy, max_tokens, shape in shapes]


def _vote_shape(k: int, stop: str) -> Shape:
    return (("k", k), ("stop", stop)) if stop else (("k", k),)


def _arguments(action: Action, strategy: type[Any]) -> dict[str, ShapeValue]:
    known = {name: each for name, each in inspect.signature(strategy).parameters.items() if each.kind is not each.KEYWORD_ONLY}
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

"""Admits requests: what the wire cannot check takes the names of models, actions and verifiers, and the caller's key."""

from __future__ import annotations

import msgspec

from rheostat.data.errors import ActionError, RequestError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.policies.catalogue import build
from rheostat.policies.needs import check_needs
from rheostat.router.ask import NO_CONSTRAINTS
from rheostat.serving.auth import Principal
from rheostat.serving.config import Config
from rheostat.serving.job import LIVE_VERIFIERS
from rheostat.serving.pool import Pools
from rheostat.serving.targets import Target, resolve
from rheostat.serving.terms import Terms
from rheostat.serving.wire import Chat

VERIFIER, ACTION, TOTAL = "rheostat.verifier", "rheostat.action", "rheostat.max_tokens_total"  # fields of a request
SHOWN = 60  # characters of a client's own word in an error


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be served: what it asks, of what, for whom, and under which terms.

    The terms are those its tier had when it was admitted: it may leave the configuration while the request is served.
    """

    chat: Chat
    target: Target
    principal: Principal
    terms: Terms

    @property
    def tenant(self) -> str:
        """Whose decision it will be."""
        return self.principal.tenant

    @property
    def room(self) -> int | None:
        """Tokens that it may generate; None where it says nothing of them."""
        return self.terms.both.max_tokens_total

    def after(self, spent: Ledger) -> Admitted:
        """The same request with the tokens that are left once so much was spent on it."""
        if self.room is None or not spent.generated:
            return self
        own = msgspec.structs.replace(self.terms.own, max_tokens_total=self.room - spent.generated)
        return msgspec.structs.replace(self, terms=Terms(defaults=self.terms.defaults, own=own))


def admit(chat: Chat, principal: Principal, *, config: Config, pools: Pools, toolbox: Toolbox) -> Admitted:
    """The request, once it is known to be one that can be served for this caller.

    Raises:
        RequestError: names the field.
    """
    target = resolve(chat.model, config, may_name=principal.may_ask)
    principal.check(target, forced=chat.action is not None)
    _check_verifier(chat.verifier)
    if chat.action is not None:
        _check_runnable(chat.action, pools, toolbox)
        _check_size(chat.action, config.server.max_tokens)
    defaults = config.tier[target.tier].constraints if target.tier else NO_CONSTRAINTS
    terms = Terms(defaults=defaults, own=chat.query.constraints)
    _check_room(chat, terms)
    return Admitted(chat=chat, target=target, principal=principal, terms=terms)


def _check_verifier(name: str | None) -> None:
    if name is not None and name not in LIVE_VERIFIERS:
        raise RequestError(f"{VERIFIER}: {name[:SHOWN]!r} is not known: known are {', '.join(LIVE_VERIFIERS)}", param=VERIFIER)


def _check_runnable(action: Action, pools: Pools, toolbox: Toolbox) -> None:
    try:
        build(action)
        if action.model not in pools:
            raise RequestError(f"{ACTION}: no backend serves the model {action.model!r}", param=ACTION)
        check_needs(action, toolbox, pools)
    except ActionError as error:
        raise RequestError(f"{ACTION}: {error}", param=ACTION) from error


def _check_room(chat: Chat, terms: Terms) -> None:
    """That all answers that are wanted can be given."""
    if chat.action is not None and chat.n > 1:
        raise RequestError(f"n: a named action gives one answer, not {chat.n}: leave n out, or {ACTION}", param="n")
    most = terms.both.max_tokens_total
    if most is not None and most < chat.n:
        raise RequestError(
            f"{TOTAL}: {most} tokens are fewer than the {chat.n} answers asked for: allow more, or ask for fewer", param=TOTAL
        )


def _check_size(action: Action, most_tokens: int) -> None:
    if action.max_tokens > most_tokens:
        raise RequestError(f"{ACTION}: {action.max_tokens} tokens are more than the {most_tokens} this server allows", param=ACTION)

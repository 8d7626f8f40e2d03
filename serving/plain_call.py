"""Decisions for one plain call of a model, which no strategy shapes: what it may generate, and who gets one.

Those are requests that name a model, and those whose form (tools, a schema, several answers) a strategy would break.
"""

from __future__ import annotations

import time

import msgspec

from rheostat.data.schema import Action, Decision, Query, new_id
from rheostat.policies.catalogue import is_single_call
from rheostat.serving.admitted import Admitted
from rheostat.serving.config import Config
from rheostat.serving.metrics import PASSTHROUGH
from rheostat.serving.wire import Chat


def passthrough_decision(admitted: Admitted, model: str, config: Config, *, bundle: str) -> Decision:
    """The decision of a request that named its model: there was nothing to choose.

    Args:
        admitted: the request.
        model: what it named.
        config: says how much the model may generate where the client did not.
        bundle: version of the bundle served meanwhile, for the record.
    """
    return Decision(
        decision_id=new_id("d"),
        query_id=admitted.chat.query.query_id,
        created_s=time.time(),
        action=str(plain_action(model, admitted.chat, config)),
        propensity=1.0,
        tier=PASSTHROUGH,
        rule=PASSTHROUGH,
        bundle=bundle,
        tenant=admitted.tenant,
        checked=admitted.terms.high_stakes,
    )


def in_form(decision: Decision, chat: Chat, config: Config) -> Decision:
    """The decision, or one plain call of its model where the client fixed the form of the answer.

    Strategies of several samples pick one of them whole, and stay; several answers are several samples.
    """
    action = Action.parse(decision.action)
    if chat.action is not None or not (chat.n > 1 or breaks_form(action, chat.query)):
        return decision
    plain = str(plain_action(action.model, chat, config))
    guarantee = decision.guarantee and decision.guarantee.withdrawn()
    return msgspec.structs.replace(decision, action=plain, p_correct=None, p_interval=None, cost_usd=None, guarantee=guarantee)


def breaks_form(action: Action, query: Query) -> bool:
    """Whether the action gets in the way of the form of answer that the client fixed.

    Instructions and caps of single-call strategies are made for questions, not for tools and schemas.
    """
    return fixes_form(query) and is_single_call(action)


def fixes_form(query: Query) -> bool:
    """Whether the client asks for tool calls or for a schema, which an answer must keep."""
    extra = query.sampling.extra
    formatted = (extra.get("response_format") or {}).get("type") not in (None, "text")
    return formatted or bool(extra.get("tools")) or bool(extra.get("structured_outputs"))


def plain_action(model: str, chat: Chat, config: Config) -> Action:
    """One call for all answers the client wants, each capped as `answer_tokens` says."""
    return Action(model, PASSTHROUGH, answer_tokens(model, chat, config) * chat.n)


def answer_tokens(model: str, chat: Chat, config: Config) -> int:
    """What the client said, or else half of the context: the engine refuses a prompt and a cap longer than that.

    A model that has just left the configuration has no context, and no backend that would be called either.
    """
    if chat.query.sampling.max_tokens is not None:
        return chat.query.sampling.max_tokens
    context = min((backend.context_tokens for backend in config.backend if backend.model == model), default=1)
    return max(1, min(context // 2, config.server.max_tokens // chat.n))

"""A budget for thinking: native where the engine has one, else forced by two calls.

Forced: the chain is cut at the budget and the model is made to answer by the beginning of an answer; a chain that ends
early is sent back to thinking by "Wait". Source: Muennighoff et al., 2025 (s1: budget forcing).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from msgspec.structs import replace

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate, Completion, Context, Evidence, GenerateRequest
from rheostat.policies.evidence import candidate

ANSWER_STEM = "The answer is"
ANSWER_TOKENS = 48
WAIT = "Wait,"
BAD_REQUEST = 400  # an engine without native budgets says so before it generates

_STATED = re.compile(r"\b(?:so,?\s+|therefore,?\s+|thus,?\s+)?(?:the\s+)?(?:final\s+)?answer(?:\s+is|:)", re.IGNORECASE)


class Forcing(NamedTuple):
    """At most `tokens` of thinking; a chain that ends before that is extended up to `waits` times."""

    tokens: int
    waits: int


async def force(query: Query, context: Context, request: GenerateRequest, plan: Forcing) -> AsyncIterator[Evidence]:
    """Yield the chain after every call; `request` is how it is asked, with all of the cap as its limit."""
    whole = request.max_tokens
    thinking = max(1, min(plan.tokens, whole - min(ANSWER_TOKENS, whole // 4)))
    both = min(whole, thinking + ANSWER_TOKENS)
    try:
        native = await context.call(replace(request, thinking_tokens=thinking, max_tokens=both))
    except UpstreamError as error:
        if error.status != BAD_REQUEST:
            raise
    else:
        yield _evidence(native.completions[0], query, context, why="native thinking", last=True)
        return
    async for evidence in _forced(query, context, replace(request, max_tokens=both), Forcing(thinking, plan.waits)):
        yield evidence


async def _forced(query: Query, context: Context, request: GenerateRequest, plan: Forcing) -> AsyncIterator[Evidence]:
    """The chain, its extensions and the forced answer, one call each."""
    chain = (await context.call(replace(request, max_tokens=plan.tokens))).completions[0]
    waits = plan.waits
    while waits and chain.finish_reason == "stop" and (room := _room(chain, plan.tokens, context)):
        yield _evidence(chain, query, context, why="before more thinking")
        waits -= 1
        beginning = f"{before_answer(chain.text).rstrip()} {WAIT}".lstrip()
        chain = await _continued(chain, beginning, replace(request, max_tokens=room), context)
    room = min(ANSWER_TOKENS, _room(chain, request.max_tokens, context))
    if chain.finish_reason != "length" or not room:
        yield _evidence(chain, query, context, why="the whole chain", last=True)
        return
    yield _evidence(chain, query, context, why="the chain as it was cut")
    beginning = f"{chain.text.rstrip()}\n{ANSWER_STEM}".lstrip()
    answered = await _continued(chain, beginning, replace(request, max_tokens=room), context)
    yield _evidence(answered, query, context, why="an answer forced after the chain was cut", last=True)


def before_answer(text: str) -> str:
    """A chain without the answer it states in the end; what it says of an answer earlier on is thinking."""
    stated = [*_STATED.finditer(text)]
    return text[: stated[-1].start()] if stated else text


def _room(chain: Completion, limit: int, context: Context) -> int:
    """Tokens that the reply may still grow by."""
    return max(0, min(limit - chain.completion_tokens, context.left_tokens()))


async def _continued(chain: Completion, beginning: str, request: GenerateRequest, context: Context) -> Completion:
    """The reply that begins with `beginning`, gone on with; it counts the tokens of all its calls."""
    more = (await context.call(replace(request, prefill=beginning))).completions[0]
    tokens = chain.completion_tokens + more.completion_tokens
    return replace(more, text=beginning + more.text, completion_tokens=tokens, mean_logprob=None)


def _evidence(completion: Completion, query: Query, context: Context, *, why: str, last: bool = False) -> Evidence:
    found: Candidate = candidate(completion, index=0, model=context.model, kind=context.kind, asked=query.sampling.extra)
    return Evidence(candidates=(found,), chosen=0, why=why, planned=1, last=last)

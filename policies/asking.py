"""One upstream request from a query: the client's own sampling wins, the strategy fills in the rest."""

from __future__ import annotations

from collections.abc import Callable

from rheostat.data.schema import Query
from rheostat.policies.base import Context, GenerateRequest
from rheostat.policies.prompts import Messages

Ask = Callable[[Messages], Messages]


def ask(query: Query, context: Context, *, how: Ask, max_tokens: int, temperature: float, n: int = 1, first: int = 0) -> GenerateRequest:
    """A request for `n` samples of at most `max_tokens` tokens each, the first being sample number `first` of the query.

    Seeds are the base seed plus the number of the sample, since one seed gives one text: the engine adds the place
    within a request itself.
    """
    wanted = query.sampling
    return GenerateRequest(
        model=context.model,
        messages=how(query.messages),
        max_tokens=max_tokens,
        n=n,
        temperature=temperature if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        seed=(context.seed if wanted.seed is None else wanted.seed) + first,
        stop=wanted.stop,
        extra=wanted.extra,
    )


def share(query: Query, left_tokens: int, samples: int) -> int:
    """The cap in tokens of each of `samples` equal samples: what is left shared out, or less where the client said so.

    Never under one token: where not even that is left, the meter refuses the call.
    """
    cap = max(1, left_tokens // samples)
    return cap if query.sampling.max_tokens is None else min(cap, query.sampling.max_tokens)

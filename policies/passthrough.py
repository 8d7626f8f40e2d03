"""A single-call action, streamed: the backend's bytes as they come, and the result once they are through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import cast

from msgspec.structs import replace

from rheostat.data.errors import ActionError, UpstreamError
from rheostat.data.schema import Action, AnswerKind, Query
from rheostat.policies.base import Context, Evidence, GenerateRequest, Meter, StreamingBackend
from rheostat.policies.catalogue import build
from rheostat.policies.direct import SingleCall
from rheostat.policies.evidence import candidate
from rheostat.policies.reply import Reply
from rheostat.policies.run import Caller, Clock, Result, backend_of, result_of


class ActionStream:
    """One run of a single-call action; iterate once over it for the bytes, then ask for the result.

    Args:
        action: a single-call action, as `catalogue.is_single_call` tells.
        query: what is asked, with the client's own sampling.
        backends: model name -> the server that runs it.
        kind: how the answer is read from the text.
        seed: the seed, unless the client gave one.
        deadline_s: seconds from now after which the call is given up.
        meter: where to spend; a new one of the action's cap otherwise.

    Raises:
        ActionError: the action is unknown, or takes more than one call.
    """

    def __init__(
        self,
        action: Action,
        query: Query,
        backends: Mapping[str, StreamingBackend],
        *,
        kind: AnswerKind,
        seed: int,
        deadline_s: float | None = None,
        meter: Meter | None = None,
    ) -> None:
        strategy = build(action)
        if not isinstance(strategy, SingleCall):
            raise ActionError(f"{action} takes more than one call and cannot be streamed through: run it with run_action")
        self.meter = meter or Meter(action.max_tokens)
        self._clock = Clock(deadline_s)
        self._backend = backend_of(action.model, backends)
        self._context = Context(
            model=action.model,
            call=Caller(backends, self.meter, self._clock),
            left_tokens=lambda: self.meter.left_tokens,
            kind=kind,
            seed=seed,
        )
        self.request: GenerateRequest = replace(strategy.request(query, self._context), timeout_s=deadline_s)
        self._reply = Reply(self.request, self._backend.name)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, verbatim. Closing early cancels the call; in any case it is in the meter afterwards.

        Raises:
            BudgetError: the meter has no room for the call.
            UpstreamError: the backend refused, failed or fell silent; `attempts` holds what was booked.
        """
        reserved = self.request.n * self.request.max_tokens
        self.meter.reserve(reserved)
        stream = self._backend.stream(self.request, self.meter, reply=self._reply)
        try:
            async with aclosing(cast(AsyncGenerator[bytes, None], stream)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except UpstreamError as error:
            error.attempts = tuple(self.meter.attempts)
            raise
        finally:
            self.meter.release(reserved)

    @property
    def result(self) -> Result | None:
        """What came of it; None while there is no complete text."""
        completions = self._reply.completions
        if not completions:
            return None
        found = candidate(completions[0], index=0, model=self._context.model, kind=self._context.kind)
        evidence = Evidence(candidates=(found,), chosen=0, why="the only sample", planned=1, last=True)
        return result_of(evidence, "complete", self.meter, self._clock)

"""Endpoints that are an engine's own: embeddings and the tokenizer. Allowlisted fields, one call, the answer as it came.

Nothing else of an engine is reachable: the path is a constant here, never the client's.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rheostat.data.errors import RequestError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Action, Attempt, Decision, Query, new_id
from rheostat.policies.chunks import Usage
from rheostat.policies.transport import NO_SUCH_PATH
from rheostat.serving.auth import Principal
from rheostat.serving.decoding import check_depth, decode
from rheostat.serving.job import Jobs
from rheostat.serving.limits import Hold, most_tokens
from rheostat.serving.messages import check_messages
from rheostat.serving.metrics import PASSTHROUGH
from rheostat.serving.pool import Pools
from rheostat.serving.targets import Target, not_served
from rheostat.serving.upstream import Engine
from rheostat.serving.wire import LIMITS, Limits, Tools, passed_on

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
TokenIds = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]
Inputs = Annotated[list[str], msgspec.Meta(min_length=1, max_length=2048)]


class EmbeddingsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/v1/embeddings` that are served."""

    model: ModelName
    input: str | Inputs
    encoding_format: Literal["float", "base64"] | UnsetType | None = UNSET
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | UnsetType | None = UNSET
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1)] | UnsetType | None = UNSET
    user: str | None = None


class TokenizeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/tokenize` that are served: a prompt, or the messages of a chat."""

    model: ModelName
    prompt: str | UnsetType | None = UNSET
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=2048)] | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET
    add_special_tokens: bool | UnsetType | None = UNSET
    add_generation_prompt: bool | UnsetType | None = UNSET
    return_token_strs: bool | UnsetType | None = UNSET


class DetokenizeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/detokenize` that are served."""

    model: ModelName
    tokens: TokenIds


class Answered(msgspec.Struct, frozen=True):
    """The part of an engine's answer that is read here."""

    usage: Usage | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A checked call: which engine path, for which model, with what."""

    path: str
    model: str
    fields: dict[str, Any]


EMBEDDINGS_PATH = "/v1/embeddings"

_ANSWERED = msgspec.json.Decoder(Answered)
_EMBEDDINGS = msgspec.json.Decoder(EmbeddingsBody)
_TOKENIZE = msgspec.json.Decoder(TokenizeBody)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeBody)


class Forwarder:
    """Passes calls on to the engines. Embeddings are booked as prompt tokens; tokenizing costs no accelerator any time."""

    def __init__(self, *, pools: Pools, jobs: Jobs) -> None:
        self._pools = pools
        self._jobs = jobs

    async def forward(self, call: Call, principal: Principal) -> bytes:
        """The body of the engine's answer.

        Raises:
            RequestError: no backend has the model, or the key may not name it, or it has used up what it may.
            UpstreamError: no replica took the call.
        """
        if call.model not in self._pools:
            raise not_served(call.model, [model for model in self._pools if principal.may_ask(Target(model=model))])
        principal.check(Target(model=call.model), forced=False)
        if call.path != EMBEDDINGS_PATH:
            return await self._post(call)
        with self._hold(call, principal) as hold, self._jobs.open(_decision(call, principal), Query.of_text("")) as job:
            started_s = time.perf_counter()
            body = await self._post(call)
            job.meter.book(_attempt(call.model, body, time.perf_counter() - started_s))
            hold.spent(tokens=0, usd=job.cost_usd)
            return body

    def _hold(self, call: Call, principal: Principal) -> Hold:
        """What embedding its texts may cost, set aside from the key's allowance."""
        texts = call.fields["input"]
        prompt = Ledger(prompt=most_tokens([texts] if isinstance(texts, str) else texts))
        return principal.allowance.hold(tokens=0, usd=prompt.cost_usd(self._jobs.prices[call.model]))

    async def _post(self, call: Call) -> bytes:
        async def ask(engine: Engine) -> bytes:
            try:
                return await engine.forward(call.path, {**call.fields, "model": call.model})
            except UpstreamError as error:
                if error.status not in NO_SUCH_PATH:
                    raise
                # Its model is for something else. Told inside, so that it is not held against the engine.
                raise RequestError(
                    f"model: {call.model!r} does not serve {call.path} ({error}): name a model that does, such as one started for it",
                    param="model",
                ) from error

        return await self._pools[call.model].ask(ask)


def _decision(call: Call, principal: Principal) -> Decision:
    return Decision(
        decision_id=new_id("d"),
        query_id=new_id("q"),
        created_s=time.time(),
        action=str(Action(call.model, "embeddings", 1)),
        propensity=1.0,
        tier=PASSTHROUGH,
        rule=PASSTHROUGH,
        tenant=principal.tenant,
    )


def _attempt(model: str, body: bytes, latency_s: float) -> Attempt:
    """The call as it is booked, by the engine's own count."""
    try:
        usage = _ANSWERED.decode(body).usage or Usage()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamError(f"{model} answered an embeddings request with no JSON: {error}", backend=model, status=200) from error
    ledger = Ledger(calls=1, prompt=max(0, usage.prompt_tokens))
    return Attempt(model=model, kind="completion", status="ok", ledger=ledger, latency_s=latency_s)


def parse_embeddings(body: bytes, *, limits: Limits = LIMITS) -> Call:
    """The call in a body. Raises RequestError: status 400; `param` names the field."""
    del limits
    fields = decode(body, _EMBEDDINGS)
    return Call(path=EMBEDDINGS_PATH, model=fields.model, fields={**passed_on(fields), "input": fields.input})


def parse_tokenize(body: bytes, *, limits: Limits = LIMITS) -> Call:
    """The call in a body. Raises RequestError: status 400; `param` names the field."""
    fields = decode(body, _TOKENIZE)
    given = passed_on(fields)
    check_depth(given, limits.max_depth, body)
    if ("prompt" in given) == ("messages" in given):
        raise RequestError("give either prompt or messages", param="prompt")
    if "messages" in given:
        check_messages(given["messages"])
    return Call(path="/tokenize", model=fields.model, fields=given)


def parse_detokenize(body: bytes, *, limits: Limits = LIMITS) -> Call:
    """The call in a body. Raises RequestError: status 400; `param` names the field."""
    del limits
    fields = decode(body, _DETOKENIZE)
    return Call(path="/detokenize", model=fields.model, fields={"tokens": fields.tokens})

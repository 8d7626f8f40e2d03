"""A small server that speaks as vLLM does, made up by a FakeModel, and goes wrong on demand.

    python -m rheostat.policies.fake_server --port 8001 --model pocket --fault hang --every 10

For tests of faults and of serving, without an engine: completions, plain and of chats (streamed or not), /tokenize and
/detokenize, /v1/models, /health and /metrics, whose `vllm:generation_tokens_total` counts every token that was
generated, whoever read it. What goes wrong can be changed while it runs: POST /control takes
`{"faults": [...], "waiting": 0, "healthy": true}`, each optional.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from aiohttp import web

from rheostat.data.schema import message_text
from rheostat.policies.fake import FakeModel, Spoken, question_of
from rheostat.policies.fake_forms import formed_text, tool_call

ServerFault = Literal[
    "ok",
    "bad_request",
    "error_500",
    "busy_503",
    "busy_429",
    "silent",
    "hang",
    "hang_one",
    "endless",
    "drip",
    "stale",
    "reset_head",
    "reset",
    "truncate",
    "redirect",
    "garbage_200",
    "garbage_event",
    "error_event",
    "long_line",
    "split",
    "no_usage",
]
"""What one call does: refuse with 400, 500, or 503 or 429 and Retry-After; never answer; fall silent half way; let
the last sample fall silent half way; go on until the cap; send a byte at a time; close the connection without an
answer, as one does that was kept open for too long; reset it after the head, or half way; end without [DONE]; send
the caller on to the same place; answer 200 with a web page; send an event that is no JSON; report an error in the
stream; send a line of 11 MB; cut the bytes inside lines and characters; leave the usage out."""

FAULTS: tuple[ServerFault, ...] = get_args(ServerFault)
LONG_LINE_BYTES = 11 * 1024 * 1024
ODD_CUT = 7

Event = dict[str, Any]


class FakeServer:
    """The application and its state.

    Args:
        models: the names it serves; empty serves any.
        model: what they all say.
        faults: what calls do, in turn and again from the start.
        token_s: seconds for a token of every sample.
        drip_s: seconds between two bytes of a dripping call.
        context_tokens: prompt and cap together, a character of the prompt being a token; more is refused. None is no limit.
        aborts: whether a call can be aborted by its id, as with vLLM's `--enable-scale-out`.

    `generated_tokens` is the engine's counter; `running` the calls in progress.
    """

    def __init__(
        self,
        models: Sequence[str] = ("fake",),
        *,
        model: FakeModel | None = None,
        faults: Sequence[ServerFault] = ("ok",),
        token_s: float = 0.0,
        drip_s: float = 0.05,
        aborts: bool = True,
        context_tokens: int | None = None,
    ) -> None:
        self.models = tuple(models)
        self.model = model or FakeModel()
        self.faults = tuple(faults)
        self.token_s = token_s
        self.drip_s = drip_s
        self.generated_tokens = 0
        self.prompt_tokens = 0
        self.running = 0
        self.aborts = aborts
        self.context_tokens = context_tokens
        self.aborted: dict[str, asyncio.Event] = {}
        self.bodies: list[dict[str, Any]] = []
        self.waiting = 0
        self.healthy = True
        self.last_headers: dict[str, str] = {}
        self.app = web.Application(client_max_size=32 * 1024 * 1024)
        self.app.router.add_post("/v1/chat/completions", self._chat)
        self.app.router.add_post("/v1/completions", self._complete)
        self.app.router.add_post("/v1/embeddings", self._embed)
        self.app.router.add_post("/tokenize", self._tokenize)
        self.app.router.add_post("/detokenize", self._detokenize)
        self.app.router.add_post("/inference/v1/abort_requests", self._abort)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_post("/control", self._control)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _control(self, request: web.Request) -> web.Response:
        """Change what goes wrong; answers with the number of calls so far and the headers of the last."""
        asked = await request.json()
        self.faults = tuple(asked.get("faults", self.faults))
        self.waiting = asked.get("waiting", self.waiting)
        self.healthy = asked.get("healthy", self.healthy)
        return web.json_response({"calls": len(self.bodies), "headers": self.last_headers})

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _abort(self, request: web.Request) -> web.Response:
        if not self.aborts:
            return _error(403, "Scale-out endpoints are disabled.")
        for call_id in (await request.json())["request_ids"]:
            if call_id in self.aborted:
                self.aborted[call_id].set()
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        label = f'{{engine="0",model_name="{self.models[0] if self.models else "any"}"}}'
        values = {
            "generation_tokens_total": self.generated_tokens,
            "prompt_tokens_total": self.prompt_tokens,
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "kv_cache_usage_perc": 0.0,
        }
        return web.Response(text="".join(f"vllm:{name}{label} {float(value)}\n" for name, value in values.items()))

    async def _embed(self, request: web.Request) -> web.Response:
        """Texts are embedded as their lengths."""
        body = await request.json()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": at, "embedding": [float(len(text))]} for at, text in enumerate(texts)]
        words = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": words, "total_tokens": words}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body and not all("role" in message for message in body["messages"]):
            return _error(400, "a message has no role")
        rendered = body.get("prompt") or "".join(f"<{each['role']}>{message_text(each)}" for each in body["messages"]) + "<assistant>"
        tokens = [ord(character) for character in rendered]
        return web.json_response({"tokens": tokens, "count": len(tokens), "max_model_len": self.context_tokens})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"prompt": "".join(map(chr, (await request.json())["tokens"]))})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._chat(request)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults[len(self.bodies) % len(self.faults)]
        body = await request.json()
        self.bodies.append(body)
        self.last_headers = dict(request.headers)
        if self.models and body.get("model") not in self.models:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        if self.context_tokens is not None and body.get("max_tokens", 0) >= self.context_tokens:
            return _error(400, f"max_tokens={body['max_tokens']} cannot be greater than max_model_len={self.context_tokens}.")
        if fault in REFUSALS:
            return REFUSALS[fault]()
        if fault == "silent":
            await asyncio.Event().wait()
        if fault == "stale" and request.transport is not None:
            request.transport.close()
            return web.Response()
        call = _ServedCall(self, body, fault)
        self.running += 1
        self.aborted[call.call_id] = call.aborted
        try:
            return await call.stream(request) if body.get("stream") else call.whole()
        finally:
            self.running -= 1
            del self.aborted[call.call_id]


class _ServedCall:
    """One call: its samples are spoken at once and generated word by word, all samples in step, as a batch is."""

    def __init__(self, server: FakeServer, body: dict[str, Any], fault: ServerFault) -> None:
        self._server = server
        self._body = body
        self._fault = fault
        self._is_chat = "messages" in body
        self.call_id = f"{'chatcmpl' if self._is_chat else 'cmpl'}-{len(server.bodies)}"
        self.aborted = asyncio.Event()
        question = question_of(body["messages"]) if self._is_chat else body["prompt"]
        self._prompt = len(question.split())
        server.prompt_tokens += self._prompt
        max_tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 256
        # Greedy decoding does not see the seed.
        greedy = body.get("temperature") == 0
        seeds = [0 if greedy else (body.get("seed") or 0) + index for index in range(body.get("n") or 1)]
        self._said = [0] * len(seeds)
        self._spoken = [server.model.speak(question, seed, max_tokens, endless=fault == "endless") for seed in seeds]
        self._tool_call = tool_call(body) if self._is_chat else None
        formed = "" if self._tool_call else formed_text(body)
        if formed is not None:
            self._spoken = [Spoken((formed,), "tool_calls" if self._tool_call else "stop", -0.1)] * len(seeds)

    def whole(self) -> web.Response:
        """The answer in one piece."""
        total = sum(len(spoken.words) for spoken in self._spoken)
        self._server.generated_tokens += total
        choices = [
            {"index": i, "message": {"role": "assistant", "content": s.text}, "finish_reason": s.finish_reason}
            for i, s in enumerate(self._spoken)
        ]
        return web.json_response({"object": "chat.completion", "choices": choices, "usage": self._usage(total)})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The answer as events, until a fault ends it."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if self._fault == "reset_head" and request.transport is not None:
            request.transport.abort()
            return response
        lengths = [len(spoken.words) for spoken in self._spoken]
        for at in range(max(lengths)):
            # Half of the shortest: no sample is complete when the call goes wrong.
            if at == min(lengths) // 2 and await self._goes_wrong(request, response):
                return response
            await asyncio.sleep(self._server.token_s)
            if self.aborted.is_set():
                break
            for index, spoken in enumerate(self._spoken):
                if at < len(spoken.words) and not self._stuck(index, at):
                    await self._send(response, self._word(index, spoken, at))
        if self._fault == "hang_one":
            await self.aborted.wait()
        await self._end(response)
        return response

    async def _end(self, response: web.StreamResponse) -> None:
        """Close samples that an abort cut off, then give the total and the end."""
        for index, spoken in enumerate(self._spoken):
            if self._said[index] < len(spoken.words):
                said: Event = {"delta": {}} if self._is_chat else {"text": ""}
                choice = {"index": index, **said, "finish_reason": "abort"}
                await self._send(response, {"id": self.call_id, "choices": [choice], "usage": self._usage(self._said[index])})
        if self._fault != "no_usage":
            await self._send(response, {"id": self.call_id, "choices": [], "usage": self._usage(sum(self._said))})
        await self._write(response, b"data: [DONE]\n\n")

    def _stuck(self, index: int, at: int) -> bool:
        last = index == len(self._spoken) - 1
        return self._fault == "hang_one" and last and at >= len(self._spoken[index].words) // 2

    def _word(self, index: int, spoken: Spoken, at: int) -> Event:
        self._server.generated_tokens += 1
        self._said[index] += 1
        finish_reason = spoken.finish_reason if at == len(spoken.words) - 1 else None
        word = spoken.words[at]
        said: Event = {"delta": self._delta(index, word)} if self._is_chat else {"text": word}
        choice: Event = {"index": index, **said, "finish_reason": finish_reason}
        if self._body.get("logprobs") is not None:
            listed = {"content": [{"token": word, "logprob": spoken.mean_logprob}]}
            choice["logprobs"] = listed if self._is_chat else {"tokens": [word], "token_logprobs": [spoken.mean_logprob]}
        event: Event = {"id": self.call_id, "object": "chat.completion.chunk", "choices": [choice]}
        return event if self._fault == "no_usage" else event | {"usage": self._usage(at + 1)}

    def _delta(self, index: int, word: str) -> Event:
        if self._tool_call is None:
            return {"content": word}
        return {"tool_calls": [{"index": 0, "id": f"{self.call_id}-{index}", "type": "function", "function": self._tool_call}]}

    def _usage(self, completion_tokens: int) -> Event:
        total = self._prompt + completion_tokens
        details = {"cached_tokens": self._prompt // 2}
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": completion_tokens,
            "total_tokens": total,
            "prompt_tokens_details": details,
        }

    async def _send(self, response: web.StreamResponse, event: Event) -> None:
        await self._write(response, b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if self._fault not in ("drip", "split"):
            await response.write(data)
            return
        step = 1 if self._fault == "drip" else ODD_CUT
        for at in range(0, len(data), step):
            await response.write(data[at : at + step])
            await asyncio.sleep(self._server.drip_s if self._fault == "drip" else 0)

    async def _goes_wrong(self, request: web.Request, response: web.StreamResponse) -> bool:
        """Do what the fault does half way; whether that was the end of it."""
        if self._fault == "hang":
            await self.aborted.wait()
        if self._fault == "reset" and request.transport is not None:
            request.transport.abort()
        broken = {
            "garbage_event": b"data: {not json\n\n",
            "error_event": b'data: {"error": {"message": "the engine died", "code": 500}}\n\ndata: [DONE]\n\n',
            "long_line": b"data: " + b"x" * (LONG_LINE_BYTES if self._fault == "long_line" else 0),
        }
        if self._fault in broken:
            await response.write(broken[self._fault])
        return self._fault in {"reset", "truncate", *broken}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "fake", "code": status}}, status=status, headers=headers)


REFUSALS: dict[ServerFault, Callable[[], web.Response]] = {
    "bad_request": lambda: _error(400, "max_tokens is too large"),
    "error_500": lambda: _error(500, "out of order"),
    "busy_503": lambda: _error(503, "overloaded", {"Retry-After": "2"}),
    "busy_429": lambda: _error(429, "too many requests", {"Retry-After": "3"}),
    "redirect": lambda: web.Response(status=307, headers={"Location": "/v1/chat/completions"}),
    "garbage_200": lambda: web.Response(text="<html>welcome</html>", content_type="text/html"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m rheostat.policies.fake_server", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", action="append", help="a name to serve, repeatable; without one it serves any")
    parser.add_argument("--fault", choices=FAULTS, default="ok")
    parser.add_argument("--every", type=int, default=1, help="only every so many calls go wrong")
    parser.add_argument("--token-s", type=float, default=0.0, help="seconds a token")
    options = parser.parse_args(arguments)
    ok: list[ServerFault] = ["ok"]
    faults = [*ok * (options.every - 1), options.fault]
    server = FakeServer(options.model or (), faults=faults, token_s=options.token_s)
    web.run_app(server.app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()

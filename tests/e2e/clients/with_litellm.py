"""LiteLLM as a client of a base URL: what came of each way of asking, as one JSON object."""

import asyncio
import json
import sys

import litellm

QUESTION = [{"role": "user", "content": "What is 23 + 45?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"sign": {"enum": ["plus", "minus"]}},
    "required": ["sign"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "calculate", "parameters": PARAMETERS, "strict": True}}


def main(url, bias):
    """Ask in every way; a call of a tool is biased, so that the model comes to its end."""

    def asking(model="auto", **fields):
        server = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "num_retries": 0}
        return {**server, "messages": QUESTION, **fields}

    whole = litellm.completion(**asking())
    streamed = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asking(stream=True)) if chunk.choices]
    by_itself = asyncio.run(litellm.acompletion(**asking()))
    chosen = {"type": "function", "function": {"name": "calculate"}}
    called = litellm.completion(**asking("pocket", tools=[TOOL], tool_choice=chosen, logit_bias=bias, max_tokens=128))
    (call,) = called.choices[0].message.tool_calls
    told = {
        "whole": {"text": whole.choices[0].message.content, "tokens": whole.usage.completion_tokens},
        "streamed": {"text": "".join(streamed)},
        "async": {"text": by_itself.choices[0].message.content},
        "tool": {"name": call.function.name, "given": call.function.arguments},
        "refused": refused(asking(temperature=9)),
    }
    print(json.dumps(told))


def refused(asked):
    """The kind of error a refusal is."""
    try:
        litellm.completion(**asked)
    except litellm.BadRequestError as error:
        return {"kind": type(error).__name__, "status": error.status_code}
    return None


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

"""How long a prompt is, and what is done with engines that answer otherwise."""

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import GenerateRequest
from rheostat.policies.templates import Templates

TOOLS = {"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 20_000}}]}


class Engine:
    """Counts every prompt as it is told, and keeps the paths it was asked."""

    def __init__(self, **told):
        self.asked = []
        self._told = told

    async def ask(self, path, fields):
        self.asked.append((path, fields))
        return self._told


def request(**fields):
    return GenerateRequest(**{"model": "m", "messages": ({"role": "user", "content": "hi"},), "max_tokens": 3000, **fields})


async def test_a_refused_request_is_cut_to_what_its_prompt_leaves_however_short_its_messages_are():
    templates = Templates(Engine(count=6000, max_model_len=8192).ask)
    assert (await templates.refitted(request(extra=TOOLS), "m")).max_tokens == 2192


async def test_later_prompts_are_counted_where_a_template_writes_more_than_the_messages():
    engine = Engine(count=6000, max_model_len=8192)
    templates = Templates(engine.ask)
    await templates.refitted(request(), "m")
    n_asked = len(engine.asked)
    assert (await templates.fitted(request(), "m")).max_tokens == 3000
    assert len(engine.asked) == n_asked
    assert (await templates.fitted(request(extra=TOOLS), "m")).max_tokens == 2192


@pytest.mark.parametrize("told", [{}, {"tokens": 3}, {"tokens": [1]}, {"tokens": [1], "prompt": None}])
async def test_a_server_that_renders_otherwise_is_an_upstream_error(told):
    with pytest.raises(UpstreamError, match="is it a vLLM server"):
        await Templates(Engine(**told).ask).prompt(request(), "m")


@pytest.mark.parametrize("told", [{}, {"max_model_len": "8192"}, {"max_model_len": 10}, {"max_model_len": 10, "count": "many"}])
async def test_a_server_that_counts_otherwise_leaves_the_request_as_it_is(told):
    templates = Templates(Engine(**told).ask)
    assert await templates.refitted(request(), "m") == request()


async def test_a_count_that_is_missing_later_is_an_upstream_error():
    engine = Engine(count=9, max_model_len=10)
    templates = Templates(engine.ask)
    await templates.refitted(request(), "m")
    del engine._told["count"]
    with pytest.raises(UpstreamError, match="gave no 'count'"):
        await templates.fitted(request(), "m")

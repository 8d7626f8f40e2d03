"""docs/guarantees.md says what the sidecar does."""

import json
import re
import shlex
import urllib.request

import pytest

from rheostat.data.schema import Guarantee
from rheostat.router.promises import least_queries, queries_needed
from rheostat.router.rules import multiplier_grid
from rheostat.serving.config import parse
from tests.serving.conftest import ROOT

TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_tier_promises_its_target():
    (block,) = blocks("toml")
    assert parse(BACKEND + block).tier["balanced"].constraints.confidence == 0.9


def test_the_block_has_every_field_of_a_guarantee():
    (block,) = blocks("json")
    assert tuple(json.loads(block)) == Guarantee.__struct_fields__


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_every_request_is_told_what_is_promised(sidecar, line):
    program, _, url, *options = shlex.split(line)
    assert program == "curl"
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ")]) if "-H" in given else {}
    request = urllib.request.Request(url.replace("http://127.0.0.1:8080", sidecar.url), data=given["-d"].encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.loads(response.read())
    told = answer["rheostat"] if "rheostat" in answer else answer["decision"]
    assert told["guarantee"]["confidence"] == 0.9
    assert told["guarantee"]["holds"] is False  # that sidecar has no bundle


def test_the_numbers_are_the_programs():
    assert f"with 90% confidence, {least_queries(0.9, 0.1)} fresh ones" in " ".join(TEXT.split())
    assert f"takes about {queries_needed(0.9, 0.9, 0.92)}" in TEXT
    assert f"{multiplier_grid.__defaults__[0]} prices" in TEXT

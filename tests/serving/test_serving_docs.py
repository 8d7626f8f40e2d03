"""docs/serving.md says what the sidecar does."""

import json
import re
import shlex
import urllib.request

import pytest

from rheostat.serving.config import Config, KeyConfig, LimitsConfig, parse
from rheostat.serving.openapi import OPERATIONS
from rheostat.serving.options import Options
from rheostat.serving.settings import VerificationConfig
from tests.serving.conftest import ROOT

TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_configuration_is_accepted_and_shows_every_key_of_access():
    block = blocks("toml")[0]
    read = parse(block)
    assert read.key[0].limits == LimitsConfig(requests_per_minute=60)
    for kind in (KeyConfig, LimitsConfig):
        assert all(re.search(rf"^{name} = |^\[key\.{name}\]", block, re.MULTILINE) for name in kind.__struct_fields__)
    assert set(re.findall(r"^\[+(\w+)", block, re.MULTILINE)) <= set(Config.__struct_fields__)


def test_the_configuration_of_checks_is_accepted_and_shows_every_key():
    block = blocks("toml")[1]
    assert parse(block).tier["legal"].high_stakes
    assert all(re.search(rf"^{name} = ", block, re.MULTILINE) for name in VerificationConfig.__struct_fields__)


def test_every_path_is_listed():
    for operation in OPERATIONS:
        assert operation.path in TEXT, operation.path


def test_every_option_is_listed_with_its_header():
    for name in Options.__struct_fields__:
        assert f"`{name}`" in TEXT, name
        assert f"`x-rheostat-{name.replace('_', '-')}`" in TEXT, name


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_every_request_is_answered_by_a_running_sidecar(sidecar, line):
    program, _, url, *options = shlex.split(line)
    assert program == "curl"
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ")]) if "-H" in given else {}
    body = given["-d"].encode() if "-d" in given else None
    request = urllib.request.Request(url.replace("http://127.0.0.1:8080", sidecar.url), data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.loads(response.read())

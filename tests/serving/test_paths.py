"""A path is what was sent."""

import pytest

from rheostat.serving.paths import is_plain


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/healthz", b"/tokenize", b"/openapi.json", b"/v1/models"])
def test_the_paths_served_are_plain(path):
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        b"", b"*", b"/", b"v1/models", b"//v1/models", b"/v1//models", b"/v1/models/", b"/v1/./models", b"/v1/../metrics", b"/v1/%6dodels",
        b"/v1%2fmodels", b"/v1/models%00", b"/v1/models;x=1", b"/v1\\models", b"/..;/metrics", b"/v1/models ",
    ],
)  # fmt: skip
def test_a_path_with_two_readings_is_none(path):
    assert not is_plain(path)

"""A request has one reading."""

import pytest

from rheostat.serving.plain import ambiguous_header, is_plain_path


@pytest.mark.parametrize(
    "path",
    [b"/v1/chat/completions", b"/healthz", b"/tokenize", b"/openapi.json", b"/v1/models", b"/v1/models/auto:quick", b"/v1/models/a%2Fb"],
)
def test_the_paths_served_are_plain(path):
    assert is_plain_path(path)


@pytest.mark.parametrize(
    "path",
    [
        b"", b"*", b"/", b"v1/models", b"//v1/models", b"/v1//models", b"/v1/models/", b"/v1/./models", b"/v1/../metrics", b"/v1/%6dodels",
        b"/v1%2fmodels", b"/v1/models%00", b"/v1/models;x=1", b"/v1\\models", b"/..;/metrics", b"/v1/models ",
        b"/v1/models/../usage", b"/v1/models//a", b"/v1/models/a;x",
    ],
)  # fmt: skip
def test_a_path_with_two_readings_is_none(path):
    assert not is_plain_path(path)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        (b"transfer-encoding", b"chunked", None),
        (b"transfer-encoding", b" Chunked ", None),
        (b"transfer-encoding", b"gzip, chunked", "transfer-encoding"),
        (b"upgrade", b"h2c", "upgrade"),
        (b"host", b"x", None),
    ],
)
def test_a_header_that_leaves_the_end_of_the_body_open_is_found(name, value, found):
    assert ambiguous_header([(b"host", b"x"), (name, value)]) == found

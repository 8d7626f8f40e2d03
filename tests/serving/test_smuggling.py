"""Requests that two servers might read differently are refused and their connection closed: bytes on a raw socket."""

import json
import re
import socket
from contextlib import suppress

import pytest

BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "What is 2 plus 3?"}]}).encode()
HIDDEN = b"GET /healthz?hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
QUIET_S = 3
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(*lines, start=b"POST /v1/decide HTTP/1.1", end=b"\r\n"):
    return end.join([start, b"Host: x", *lines]) + end * 2


AMBIGUOUS = {
    "length and chunked": head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + CHUNKED + HIDDEN,
    "chunked and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 4") + CHUNKED + HIDDEN,
    "two lengths": head(b"Content-Length: %d" % len(BODY), b"Content-Length: 5") + BODY + HIDDEN,
    "two equal lengths": head(b"Content-Length: %d" % len(BODY), b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "a list of lengths": head(b"Content-Length: %d, 5" % len(BODY)) + BODY + HIDDEN,
    "a signed length": head(b"Content-Length: +%d" % len(BODY)) + BODY + HIDDEN,
    "a negative length": head(b"Content-Length: -1") + BODY + HIDDEN,
    "a hexadecimal length": head(b"Content-Length: 0x10") + BODY + HIDDEN,
    "a length beyond 64 bits": head(b"Content-Length: 99999999999999999999999") + BODY + HIDDEN,
    "space before the colon": head(b"Transfer-Encoding : chunked") + CHUNKED + HIDDEN,
    "chunked with a vertical tab": head(b"Transfer-Encoding: \x0bchunked") + CHUNKED + HIDDEN,
    "chunked in quotes": head(b'Transfer-Encoding: "chunked"') + CHUNKED + HIDDEN,
    "chunked before another": head(b"Transfer-Encoding: chunked, identity") + CHUNKED + HIDDEN,
    "an unknown coding": head(b"Transfer-Encoding: xchunked") + CHUNKED + HIDDEN,
    "chunked twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow") + CHUNKED + HIDDEN,
    "compressed and chunked": head(b"Transfer-Encoding: gzip, chunked") + CHUNKED + HIDDEN,
    "a folded header": head(b"Transfer-Encoding:\r\n chunked") + CHUNKED + HIDDEN,
    "bare line feeds": head(b"Content-Length: %d" % len(BODY), end=b"\n") + BODY + HIDDEN,
    "a bare line feed before a header": head(b"X: y\nContent-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "a bare carriage return": head(b"X: y\rContent-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "a NUL in a header": head(b"X: y\x00z", b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "no name": head(b": y", b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "a space in the name": head(b"X Y: z", b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "a wrong chunk size": head(b"Transfer-Encoding: chunked") + b"zz\r\n" + CHUNKED + HIDDEN,
    "a signed chunk size": head(b"Transfer-Encoding: chunked") + b"+5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "a prefixed chunk size": head(b"Transfer-Encoding: chunked") + b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "a chunk longer than said": head(b"Transfer-Encoding: chunked") + b"2\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunks with bare line feeds": head(b"Transfer-Encoding: chunked") + CHUNKED.replace(b"\r\n", b"\n") + HIDDEN,
    "another protocol": head(start=b"POST /v1/decide HTTP/3.0") + HIDDEN,
    "no protocol": b"GET /healthz\r\n\r\n" + HIDDEN,
    "spaces in the path": head(start=b"GET /healthz /x HTTP/1.1") + HIDDEN,
    "an unknown method": head(start=b"SMUGGLE /healthz HTTP/1.1") + HIDDEN,
    "an upgrade": head(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN,
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
}

LAST = b"Connection: close"
PLAIN = {
    "length": head(b"Content-Length: %d" % len(BODY), LAST) + BODY,
    "chunked": head(b"Transfer-Encoding: chunked", LAST) + CHUNKED,
    "a chunk extension": head(b"Transfer-Encoding: chunked", LAST) + CHUNKED.replace(b"\r\n", b";a=b\r\n", 1),
}


def answers(sidecar, sent):
    """Everything a connection says until it is closed or quiet."""
    said = b""
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=QUIET_S) as connection, suppress(TimeoutError, ConnectionError):
        connection.sendall(sent)
        while piece := connection.recv(65536):
            said += piece
    return said


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_what_is_behind_it_never_served(sidecar, name):
    said = answers(sidecar, AMBIGUOUS[name])
    assert b'"ok"' not in said
    # The parser may refuse the rest once more before the connection is closed.
    statuses = re.findall(rb"HTTP/1.1 (\d)", said)
    assert set(statuses) <= {b"4"}
    assert not said or said.lower().count(b"connection: close") == len(statuses)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_request_is_served(sidecar, name):
    said = answers(sidecar, PLAIN[name])
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"HTTP/1.1 ") == 1


def test_pipelined_requests_are_answered_in_order(sidecar):
    said = answers(sidecar, head(b"Content-Length: %d" % len(BODY)) + BODY + HIDDEN)
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.index(b'"decision"') < said.index(b'"ok"')


def test_headers_of_the_inside_are_not_taken_from_outside(sidecar):
    inside = (b"x-rheostat-internal-tenant: root", b"Connection: x-rheostat-deadline-ms", b"Content-Length: %d" % len(BODY))
    assert answers(sidecar, head(*inside, LAST) + BODY).startswith(b"HTTP/1.1 200")

"""Large bodies, before anything decodes them: how deep they are and how many values they hold, a slice at a time.

A decoder cannot be interrupted: four megabytes of small values would hold up every other request for as long as they
take. Text costs a decoder next to nothing, so it is values that are bounded, and not bytes.
"""

from __future__ import annotations

import asyncio
import re

from rheostat.data.errors import RequestError

MAX_VALUES = 50_000
SMALL_BYTES = 32 * 1024  # a body no larger is decoded in a millisecond or two, whatever it holds
SLICE_BYTES = 8 * 1024

_STRUCTURE = re.compile(rb'["\[\]{},]')
_IN_TEXT = re.compile(rb'["\\]')


class Scan:
    """Feeds on the bytes of one JSON text; what is no JSON at all is left for the decoder to say."""

    def __init__(self, *, max_depth: int, max_values: int = MAX_VALUES) -> None:
        self._max_depth = max_depth
        self._max_values = max_values
        self._depth = 0
        self._values = 0
        self._in_text = False
        self._skip = 0

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes.

        Raises:
            RequestError: status 400; too deep, or too many values.
        """
        at, self._skip = self._skip, 0
        while found := (_IN_TEXT if self._in_text else _STRUCTURE).search(piece, at):
            at = found.end()
            mark = found[0]
            if mark == b"\\":
                at += 1  # whatever is escaped
            elif mark == b'"':
                self._in_text = not self._in_text
            else:
                self._count(mark)
        self._skip = max(0, at - len(piece))

    def _count(self, mark: bytes) -> None:
        if mark in b"]}":
            self._depth -= 1
            return
        self._values += 1
        self._depth += mark in b"[{"
        if self._depth > self._max_depth:
            raise RequestError(f"the body is nested deeper than {self._max_depth} levels", param="body", code="too_complex")
        if self._values > self._max_values:
            raise RequestError(f"the body holds more than {self._max_values} values", param="body", code="too_complex")


async def scan(body: bytes, *, max_depth: int) -> None:
    """Look through a body, letting others run after every slice; a small one is not worth a look.

    Raises:
        RequestError: status 400; too deep, or too many values.
    """
    if len(body) <= SMALL_BYTES:
        return
    reader = Scan(max_depth=max_depth)
    for at in range(0, len(body), SLICE_BYTES):
        reader.feed(body[at : at + SLICE_BYTES])
        await asyncio.sleep(0)

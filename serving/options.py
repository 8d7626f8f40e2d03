"""What a request may ask of Rheostat itself: the `rheostat` object of its body, or its `x-rheostat-*` headers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from rheostat.data.errors import ActionError, RequestError
from rheostat.data.schema import Action, Constraints
from rheostat.data.spelling import did_you_mean
from rheostat.serving.decoding import MAX_NAME, of_validation

MAX_DEADLINE_MS = 3_600_000
HEADER_PREFIX = "x-rheostat-"
INTERNAL_PREFIX = "x-rheostat-internal-"

SESSION = "1 to 200 printable ASCII characters without blanks"

Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
Confidence = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Headers = Iterable[tuple[bytes, bytes]]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `rheostat` object of a request, or the `x-rheostat-*` headers; the body wins over a header."""

    target_accuracy: Probability | None = None
    confidence: Confidence | None = None
    max_cost_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_tokens_total: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=MAX_DEADLINE_MS)] | None = None
    action: Annotated[str, msgspec.Meta(max_length=300)] | None = None
    reference: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    verifier: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    session: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,200}$", description=SESSION)] | None = None
    explore: bool = True
    strict: bool = False
    high_stakes: bool = False
    progress: bool = False

    @property
    def constraints(self) -> Constraints:
        """The part of the options that the decision is made under."""
        return Constraints(
            target_accuracy=self.target_accuracy,
            confidence=self.confidence,
            max_cost_usd=self.max_cost_usd,
            max_tokens_total=self.max_tokens_total,
            deadline_s=None if self.deadline_ms is None else self.deadline_ms / 1000,
            high_stakes=self.high_stakes,
            strict=self.strict,
            explore=self.explore,
        )

    @property
    def forced(self) -> Action | None:
        """The action asked for.

        Raises:
            RequestError: the text is no action.
        """
        if self.action is None:
            return None
        try:
            return Action.parse(self.action)
        except ActionError as error:
            raise RequestError(f"rheostat.action: {error}", param="rheostat.action") from error


_RAW_PREFIX = HEADER_PREFIX.encode()
_UNSET = Options()


def read_options(body: Options | None, headers: Headers) -> Options:
    """The options of a request.

    Raises:
        RequestError: a header that is unknown, given twice, or does not fit.
    """
    given = _header_options(headers)
    if not given:
        return body or _UNSET
    try:
        parsed = msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        wrong = of_validation(given, Options, error, strict=False)
        name = header_of(wrong.param or "")
        raise RequestError(f"{name}: {str(wrong).partition(': ')[2]}", param=name) from error
    _check_finite(parsed, given)
    given_in_body = ((name, getattr(body, name)) for name in Options.__struct_fields__) if body is not None else ()
    set_in_body = {name: value for name, value in given_in_body if value != getattr(_UNSET, name)}
    return msgspec.structs.replace(parsed, **set_in_body)


def _header_options(headers: Headers) -> dict[str, str]:
    """The options in headers: `x-rheostat-deadline-ms: 500` is `deadline_ms`. Internal ones are not a client's to set."""
    given: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if not raw_name.lower().startswith(_RAW_PREFIX):
            continue
        name = raw_name.decode("latin-1").lower()
        if name.startswith(INTERNAL_PREFIX):
            continue
        option = name.removeprefix(HEADER_PREFIX).replace("-", "_")
        if option not in Options.__struct_fields__:
            known = [header_of(each) for each in Options.__struct_fields__]
            shown = name[:MAX_NAME]
            told = f"{shown}: unknown header: {did_you_mean(shown, known)}known are {', '.join(known)}"
            raise RequestError(told, param=shown, code="unknown_field")
        if option in given:
            raise RequestError(f"{name}: the header is given twice", param=name, code="duplicate_key")
        given[option] = raw_value.decode("latin-1").strip()
    return given


def _check_finite(options: Options, given: Mapping[str, str]) -> None:
    for name in given:
        value = getattr(options, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestError(f"{header_of(name)}: {value} is no number", param=header_of(name))


def header_of(option: str) -> str:
    """The header that may carry an option."""
    return HEADER_PREFIX + option.replace("_", "-")

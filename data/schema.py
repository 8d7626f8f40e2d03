"""The records that flow through Rheostat: frozen, validated once where bytes enter, trusted inside.

A Query comes in; the router makes a Decision that names an Action; every upstream call is an Attempt; what came of
it all is the Outcome. A Sample is one row of an offline log. The schema version is written into every store and file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from rheostat.data.errors import ActionError
from rheostat.data.ledger import Ledger
from rheostat.data.randomness import random_hex

SCHEMA_VERSION = 1

AnswerKind = Literal["number", "choice", "yesno", "text"]
AttemptKind = Literal["completion", "verifier"]
AttemptStatus = Literal["ok", "failed", "cancelled"]
OutcomeStatus = Literal["ok", "failed", "client_cancelled", "shed"]
ShapeValue = int | float | str


class Action(msgspec.Struct, frozen=True, order=True):
    """One way to spend compute: model, strategy, shape, and a cap in generated tokens.

    Spelled `model/strategy(name=value,...)@max_tokens`, as in `smol/self_consistency(k=8)@2048`.
    """

    model: str
    strategy: str
    max_tokens: int
    shape: tuple[tuple[str, ShapeValue], ...] = ()

    def __str__(self) -> str:
        shape = ",".join(f"{name}={value}" for name, value in self.shape)
        return f"{self.model}/{self.strategy}{f'({shape})' if shape else ''}@{self.max_tokens}"

    @property
    def arguments(self) -> dict[str, ShapeValue]:
        """The shape as keyword arguments of the strategy."""
        return dict(self.shape)

    @classmethod
    def parse(cls, spelling: str) -> Action:
        """The action a spelling names; `str(Action.parse(s))` is the canonical spelling.

        Raises:
            ActionError: the text is not of the form above.
        """
        return _parsed(spelling)


# No parentheses in a model's name: actions may hold others, as in cascade(stages=cot>large/best_of_n(n=4)).
_SPELLING = re.compile(r"(?P<model>[^\s()]+)/(?P<strategy>[a-z][a-z0-9_]*)(?:\((?P<shape>.*)\))?@(?P<cap>[1-9][0-9]{0,8})")


@lru_cache(maxsize=4096)  # a request's action is read more than once, and most requests have one of a few
def _parsed(spelling: str) -> Action:
    match = _SPELLING.fullmatch(spelling.strip())
    if match is None:
        raise ActionError(
            f"{spelling!r} is no action: write model/strategy(name=value,...)@max_tokens, as in 'pocket/self_consistency(k=8)@2048'"
        )
    shape = tuple(sorted(_argument(part, spelling) for part in _split_arguments(match["shape"] or "")))
    return Action(match["model"], match["strategy"], int(match["cap"]), shape)


def _split_arguments(text: str) -> list[str]:
    """Split at the commas that are not inside parentheses."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [part.strip() for part in [*parts, current] if part.strip()]


def _argument(part: str, spelling: str) -> tuple[str, ShapeValue]:
    name, equals, raw = part.partition("=")
    if not equals or not name.strip().isidentifier() or not raw.strip():
        raise ActionError(f"{part!r} in {spelling!r} is no argument: write name=value")
    return name.strip(), _shape_value(raw.strip())


def _shape_value(raw: str) -> ShapeValue:
    for convert in (int, float):
        try:
            return convert(raw)
        except ValueError:
            continue
    return raw


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """What the client fixed about generation; None leaves it to the strategy.

    `extra` holds the other allowlisted fields of the request, passed to the backend as they came.
    """

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """What the request demands of the decision; None leaves it to the tier.

    With a `confidence` the target is promised on average over the traffic, or the answer says that it is not.
    """

    target_accuracy: float | None = None
    confidence: float | None = None
    max_cost_usd: float | None = None
    max_tokens_total: int | None = None
    deadline_s: float | None = None
    high_stakes: bool = False
    strict: bool = False
    explore: bool = True


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Text plus request parameters. With a reference answer it is a task."""

    query_id: str
    messages: tuple[dict[str, Any], ...]
    sampling: Sampling = Sampling()
    constraints: Constraints = Constraints()
    kind: AnswerKind | None = None
    reference: str | None = None
    dataset: str = ""
    level: int = 0

    @property
    def text(self) -> str:
        """The text of the last user message: what the encoder reads and the strategies extend."""
        return question(self.messages)

    @classmethod
    def of_text(cls, text: str, **fields: Any) -> Query:
        """A query of one user message, with a new id unless one is given."""
        fields.setdefault("query_id", new_id("q"))
        return cls(messages=({"role": "user", "content": text},), **fields)


def question(messages: Sequence[dict[str, Any]]) -> str:
    """The text of the last user message of a conversation, or of its last one where there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return message_text(message)
    return message_text(messages[-1]) if messages else ""


def message_text(message: dict[str, Any]) -> str:
    """The text of an OpenAI message, whose content is a string, a list of parts, or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or [] if isinstance(part, dict) and isinstance(part.get("text"), str))


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream call of `n` samples, as booked: also when it failed or was cancelled."""

    model: str
    kind: AttemptKind
    status: AttemptStatus
    ledger: Ledger
    latency_s: float
    n: int = 1
    estimated: bool = False
    error: str | None = None


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a target was promised, with which confidence, and the most that can be promised (None where nothing was tested)."""

    target: float
    confidence: float
    holds: bool
    attainable: float | None = None

    def withdrawn(self) -> Guarantee:
        """The same one, not kept: for when something else is done than what was tested."""
        return msgspec.structs.replace(self, holds=False)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the router chose for a query and why; written before anything is spent."""

    decision_id: str
    query_id: str
    created_s: float
    action: str
    propensity: float
    tier: str = "balanced"
    target_accuracy: float | None = None
    p_correct: float | None = None
    p_interval: tuple[float, float] | None = None
    cost_usd: float | None = None
    rule: str = "average"
    bundle: str = ""
    tenant: str = "default"
    explored: bool = False
    feasible: bool = True
    degraded: str | None = None
    prompt_sha256: str = ""
    prompt_text: str | None = None
    embedding: bytes | None = None  # float16, little endian
    alternatives: dict[str, tuple[float, float]] = {}  # action -> (p_correct, cost_usd) on the frontier
    guarantee: Guarantee | None = None  # where a confidence was asked for
    checked: bool = False  # its answer is looked at before it goes out, which costs more, and another one may follow


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a decision: the ledger, the evidence at the end, and the reward once it is known."""

    decision_id: str
    finished_s: float
    status: OutcomeStatus
    ledger: Ledger
    cost_usd: float
    latency_s: float
    answer: str | None = None
    samples: int = 0
    agreement: float | None = None
    stop_reason: str = ""
    estimated: bool = False
    reward: float | None = None
    reward_source: str | None = None
    verified: bool | None = None  # whether the answer passed its check; None where it had none, or nobody could say
    attempts: tuple[Attempt, ...] = ()
    error: str | None = None


class Reward(msgspec.Struct, frozen=True, kw_only=True):
    """A reward that arrived later, keyed by decision: from feedback, a verifier or a label."""

    decision_id: str
    reward: float
    source: str
    created_s: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled answer of an offline log; (dataset, query_id, model, strategy, temperature, sample_index) is unique.

    `answer` is None where nothing could be parsed: never a vote, always a cost, always in the denominator.
    """

    dataset: str
    query_id: str
    query_text: str
    model: str
    strategy: str
    sample_index: int
    temperature: float
    answer: str | None
    gold: str
    correct: float | None
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    kind: AnswerKind = "text"
    level: int = 0
    mean_logprob: float | None = None
    finish_reason: str = "stop"
    tokens_source: str = "logged"
    source: str = "rheostat"
    cost_usd: float | None = None


def new_id(prefix: str) -> str:
    """An id that sorts by time and is unique across processes and restarts."""
    return f"{id_at(prefix, time.time())}{random_hex()}"


def id_at(prefix: str, created_s: float) -> str:
    """What sorts before every id of that time (Unix seconds) and after all earlier ones."""
    return f"{prefix}-{int(created_s * 1000):011x}-"

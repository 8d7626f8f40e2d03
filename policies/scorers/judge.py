"""Judges: a model is asked whether an answer is right, or which of two is better, and replies in a JSON schema.

The schema is asked of the engine and checked here as well, since structured output can be skipped silently. A reply that
does not fit is an abstention, never a default score. What a judge generates is booked as verifier tokens.
Sources: Zheng et al. 2023 (pairwise judging, its bias for a position); Saunders et al. 2022 (self-critique).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from rheostat.data.schema import Query
from rheostat.policies.base import Call, Candidate, GenerateRequest
from rheostat.policies.together import Failed, all_of, together

YES_NO = """\
Question:
{question}

Proposed answer:
{answer}

Work the question out for yourself, then say whether the proposed answer is correct. \
Reply with JSON only: {{"correct": true}} or {{"correct": false}}."""
PAIRWISE = """\
Question:
{question}

Answer A:
{first}

Answer B:
{second}

Which answer is better? A correct answer is better than a wrong one, whatever its style. \
Reply with JSON only: {{"better": "A"}}, {{"better": "B"}} or {{"better": "tie"}}."""
VERDICT_TOKENS = 32

AnyVerdict = TypeVar("AnyVerdict", bound=msgspec.Struct)


class Correct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict on one answer."""

    correct: bool


class Better(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict on two."""

    better: Literal["A", "B", "tie"]


class Judge:
    """judge: a model says whether an answer is correct.

    Args:
        model: whom to ask.
        max_tokens: of a verdict.
    """

    name = "judge"

    def __init__(self, model: str, *, max_tokens: int = VERDICT_TOKENS) -> None:
        self._model = model
        self._max_tokens = max_tokens

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """1.0 for correct, 0.0 for not, an abstention for a reply that does not fit; see `base.Scorer`.

        Raises:
            BudgetError: the call does not fit under the cap.
            UpstreamError: the model failed.
        """
        asked = YES_NO.format(question=query.text, answer=candidate.text)
        verdict = await _verdict(asked, Correct, call, model=self._model, max_tokens=self._max_tokens)
        return None if verdict is None else float(verdict.correct)


class PairwiseJudge:
    """pairwise: a model says which of two answers is better, asked twice with the places swapped.

    Args:
        model: whom to ask.
        max_tokens: of a verdict.
    """

    name = "pairwise"
    sees_all = True

    def __init__(self, model: str, *, max_tokens: int = VERDICT_TOKENS) -> None:
        self._model = model
        self._max_tokens = max_tokens

    def for_query(self) -> PairwiseJudge:
        """The judge of one query, who is asked about no two answers twice."""
        return _OfOneQuery(self._model, max_tokens=self._max_tokens)

    async def compare(self, query: Query, first: Candidate, second: Candidate, call: Call) -> float | None:
        """Who is better; a verdict that changes with the places is a tie; see `base.Comparer`.

        Raises:
            BudgetError: a call does not fit under the cap.
            UpstreamError: the model failed.
        """
        asked = [(first, second), (second, first)]
        forth, back = await all_of(self._asked(query, a, b, call) for a, b in asked)
        return None if forth is None or back is None else (forth + 1.0 - back) / 2

    async def score_all(self, query: Query, candidates: Sequence[Candidate], call: Call) -> tuple[float | None, ...]:
        """The share of comparisons that each answer wins, drawn a little to one half; see `base.GroupScorer`.

        Identical answers are one player. Never 1.0, because to be better than the others is not to be right; an answer
        that was never compared is an abstention.
        """
        distinct = list({each.answer: each for each in reversed(candidates) if each.answer is not None}.values())
        scores = dict(zip([each.answer for each in distinct], await self._tournament(query, distinct, call), strict=True))
        return tuple(scores.get(each.answer) for each in candidates)

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:  # noqa: ARG002
        """An abstention: one alone cannot be compared."""
        return None

    async def _tournament(self, query: Query, players: Sequence[Candidate], call: Call) -> list[float | None]:
        pairs = list(itertools.combinations(range(len(players)), 2))
        results = await together(self.compare(query, players[i], players[j], call) for i, j in pairs)
        won, played = [0.0] * len(players), [0] * len(players)
        for (i, j), result in zip(pairs, results, strict=True):
            if result is not None and not isinstance(result, Failed):
                won[i], won[j] = won[i] + result, won[j] + 1.0 - result
                played[i], played[j] = played[i] + 1, played[j] + 1
        return [(w + 0.5) / (n + 1) if n else None for w, n in zip(won, played, strict=True)]

    async def _asked(self, query: Query, first: Candidate, second: Candidate, call: Call) -> float | None:
        asked = PAIRWISE.format(question=query.text, first=first.text, second=second.text)
        verdict = await _verdict(asked, Better, call, model=self._model, max_tokens=self._max_tokens)
        return None if verdict is None else {"A": 1.0, "B": 0.0, "tie": 0.5}[verdict.better]


class _OfOneQuery(PairwiseJudge):
    """Remembers its comparisons; one that failed is made again."""

    def __init__(self, model: str, *, max_tokens: int) -> None:
        super().__init__(model, max_tokens=max_tokens)
        self._known: dict[tuple[str, str], float | None] = {}

    async def compare(self, query: Query, first: Candidate, second: Candidate, call: Call) -> float | None:
        """See `PairwiseJudge.compare`."""
        pair = first.text, second.text
        if pair not in self._known:
            won = await super().compare(query, first, second, call)
            self._known[pair] = won
            self._known[pair[::-1]] = None if won is None else 1.0 - won
        return self._known[pair]


async def _verdict(asked: str, kind: type[AnyVerdict], call: Call, *, model: str, max_tokens: int) -> AnyVerdict | None:
    request = GenerateRequest(
        model=model,
        messages=({"role": "user", "content": asked},),
        max_tokens=max_tokens,
        extra={"response_format": _response_format(kind)},
    )
    reply = (await call(request, "verifier")).completions[0].text
    try:
        return msgspec.json.decode(reply, type=kind)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _response_format(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a verdict, written out: some engines do not follow references."""
    schema = msgspec.json.schema(kind)
    return {"type": "json_schema", "json_schema": {"name": kind.__name__.lower(), "schema": schema["$defs"][kind.__name__]}}

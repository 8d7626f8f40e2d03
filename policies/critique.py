"""A model's check of an attempt, as a text and as a score. Source: Madaan et al., 2023 (Self-Refine)."""

from __future__ import annotations

import re

from rheostat.data.schema import Query
from rheostat.policies.base import Call, Candidate, GenerateRequest
from rheostat.policies.prompts import check

CHECK_TOKENS = 96
SUPPOSED_CHARS = 40  # in front of a verdict, in which it may be only supposed
# What a negation does not reach across: the end of its clause ("It is not 11, so the attempt is wrong").
_WORD = r"\s+(?!(?:so|but|and|as|because|since|thus|hence|therefore|then|which|-)(?!\S))[^\s,;:.!?()–—]+"
_NEGATION = r"(?:\b(?:not(?!\s+only)|never|cannot|neither|nothing|without|avoid(?:s|ed|ing)?|free\s+(?:of|from)|no(?!\s+doubt))|n['’]t)"
_HARDLY = r"\b(?:hardly|barely|almost|nearly|partly|partially|mostly)\s+(?=correct|right)"
# "The correct answer is 12" tells a result and says nothing of the attempt.
_RESULT = r"\s+(?:\w+\s+)?(?:answer|result|solution|value)\s+(?:is|was|would|should)\b"
_BAD = r"wrong|incorrect|(?<!\bfor )(?:mistakes?|errors?)(?!:\s?none)"  # who looks for errors has found none yet
# A word that says good or bad, and a negation up to five words before it, which turns it round.
_VERDICT = re.compile(
    rf"(?P<denied>{_NEGATION}(?:{_WORD}){{0,5}}?\s+[\"'“‘*_]{{0,3}}|{_HARDLY})?"
    rf"\b(?:(?P<good>correct|right(?!\s*,)|(?:errors?|mistakes?)-free)(?!{_RESULT})|{_BAD})\b"
    r"(?![^.!?\n]{0,40}\?)",  # what is asked is not said
    re.IGNORECASE,
)

_SUPPOSED = re.compile(r"\b(?:would|could|might)(?:\s{1,3}(?:also|be|been|have|not|only|still)){0,4}\s{1,3}\Z", re.IGNORECASE)


async def critique(query: Query, attempt: str, call: Call, *, model: str, max_tokens: int = CHECK_TOKENS) -> str:
    """What a model says of an attempt, greedily, booked as a verifier's call.

    Raises:
        BudgetError: the call does not fit under the cap.
        UpstreamError: the model failed.
    """
    request = GenerateRequest(model=model, messages=check(query.messages, attempt), max_tokens=max_tokens, stop=query.sampling.stop)
    return (await call(request, "verifier")).completions[0].text


def approves(critique: str) -> bool | None:
    """Whether a critique finds nothing: none of its verdicts is a refusal, as of a right beginning and a wrong end. None without any.

    What would or might be right or wrong is no verdict.
    """
    said = (verdict for verdict in _VERDICT.finditer(critique) if not _is_supposed(critique, verdict))
    verdicts = [(verdict["good"] is None) == (verdict["denied"] is not None) for verdict in said]
    return all(verdicts) if verdicts else None


def _is_supposed(critique: str, verdict: re.Match[str]) -> bool:
    at = verdict.end("denied") if verdict["denied"] else verdict.start()
    return _SUPPOSED.search(critique, max(0, at - SUPPOSED_CHARS), at) is not None


class SelfCheck:
    """self: the model checks an answer; 1.0 where it finds nothing, 0.0 where it does, an abstention where it says neither."""

    name = "self"

    def __init__(self, model: str, *, max_tokens: int = CHECK_TOKENS) -> None:
        self._model = model
        self._max_tokens = max_tokens

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """The verdict as a number; see `base.Scorer`."""
        approved = approves(await critique(query, candidate.text, call, model=self._model, max_tokens=self._max_tokens))
        return None if approved is None else float(approved)

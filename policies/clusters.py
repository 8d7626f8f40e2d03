"""Free texts that say the same, found by embedding, so that they can be voted on.

A text joins the first earlier one whose embedding is close enough and whose numbers and negations are the same: vectors
hardly see either. Limits: texts that differ in one name or one unit may fall together, long texts about the same matter
lie close whatever they claim, and two spellings of one claim may stay apart. So short and stated answers are never
compared this way; they are equal or not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from rheostat.policies.base import Candidate, Embed
from rheostat.policies.structured import is_encodable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SAME_FROM = 0.85  # cosine
_FACTS = re.compile(r"\d+(?:[.,]\d+)*|\b(?:not|no|never|none|cannot|without)\b|n['’]t\b", re.IGNORECASE)


class Clusters:
    """Groups of free texts as they come; the first text of a group stands for it."""

    def __init__(self, embed: Embed, *, same_from: float = SAME_FROM) -> None:
        self._embed = embed
        self._same_from = same_from
        self._groups: list[tuple[str, tuple[str, ...], npt.NDArray[np.float32]]] = []

    def with_answers(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, those without an answer but with a text given the text that stands for their group."""
        silent = [each for each in candidates if each.answer is None and each.text.strip() and is_encodable(each.text)]
        if not silent:
            return candidates
        vectors = self._embed([each.text for each in silent])
        answers = {each.index: self._place(each.text.strip(), vector) for each, vector in zip(silent, vectors, strict=True)}
        return [replace(each, answer=answers[each.index]) if each.index in answers else each for each in candidates]

    def _place(self, text: str, vector: npt.NDArray[np.float32]) -> str:
        facts = tuple(sorted(found.casefold() for found in _FACTS.findall(text)))
        for representative, its_facts, its_vector in self._groups:
            if facts == its_facts and float(vector @ its_vector) >= self._same_from:
                return representative
        self._groups.append((text, facts, vector))
        return text

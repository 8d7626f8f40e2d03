"""What can be seen of answers without reading their reasoning: how often each was given, how likely, how long.

Training and serving compute the same columns here. Knows neither labels nor what is learned from the columns.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]

STATISTICS = (
    "share_of_votes",
    "votes_ahead_of_best_other",
    "log_votes",
    "distinct_share",
    "unparsed_share",
    "log_drawn",
    "mean_logprob",
    "logprob_over_group",
    "logprob_of_answer",
    "log_tokens",
    "tokens_over_group",
    "cut_off",
    "answer_characters",
    "answer_digits",
    "answer_magnitude",
    "answer_is_negative",
    "answer_in_question",
    "question_characters",
    "question_numbers",
)
UNKNOWN_LOGPROB = -1.0

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Answer(NamedTuple):
    """One sampled answer; `answer` is None where nothing could be parsed."""

    answer: str | None
    tokens: int
    mean_logprob: float | None
    finish_reason: str = "stop"


def answer_statistics(question: str, group: Sequence[Answer]) -> Rows:
    """(n, len(STATISTICS)) finite statistics of the n answers to one question, in their order."""
    votes = Counter(each.answer for each in group if each.answer is not None)
    logprobs = [UNKNOWN_LOGPROB if each.mean_logprob is None else max(each.mean_logprob, -20.0) for each in group]
    shared = _shared(question, group, votes)
    mean_logprob = sum(logprobs) / max(len(logprobs), 1)
    mean_tokens = sum(each.tokens for each in group) / max(len(group), 1)
    rows = [
        [
            *_standing(each.answer, votes, len(group)),
            *shared[:3],
            logprob,
            logprob - mean_logprob,
            _mean(lp for other, lp in zip(group, logprobs, strict=True) if other.answer == each.answer),
            math.log1p(each.tokens),
            each.tokens / max(mean_tokens, 1.0) - 1.0,
            float(each.finish_reason == "length"),
            *_shape(each.answer or "", question),
            *shared[3:],
        ]
        for each, logprob in zip(group, logprobs, strict=True)
    ]
    return np.array(rows, dtype=np.float32).reshape(len(group), len(STATISTICS))


def _shared(question: str, group: Sequence[Answer], votes: Counter[str]) -> list[float]:
    """What all answers of a group have in common."""
    drawn = max(len(group), 1)
    return [
        len(votes) / drawn,
        1.0 - votes.total() / drawn,
        math.log1p(len(group)),
        math.log1p(len(question)),
        math.log1p(len(_NUMBER.findall(question))),
    ]


def _standing(answer: str | None, votes: Counter[str], drawn: int) -> list[float]:
    own = 0 if answer is None else votes[answer]
    best_other = max((count for other, count in votes.items() if other != answer), default=0)
    return [own / drawn, (own - best_other) / drawn, math.log1p(own)]


def _shape(answer: str, question: str) -> list[float]:
    number = _NUMBER.search(answer)
    return [
        math.log1p(len(answer)),
        sum(map(str.isdigit, answer)) / max(len(answer), 1),
        math.log1p(min(float(number[0][:17]), 1e17)) if number else 0.0,
        float(answer.startswith("-")),
        float(bool(answer) and answer in question),
    ]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0

"""Votes over candidates, in submission order. Knows nothing of strategies, backends or what stops them.

Submission order and not completion order: short answers arrive first and are not a fair draw, so counting what came
first would favour them. Source of majority voting: Wang et al., 2022 (self-consistency).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rheostat.data.answers import extract
from rheostat.data.schema import AnswerKind
from rheostat.policies.base import Candidate, Completion
from rheostat.policies.structured import asks_for_json, canonical_calls, canonical_json, is_encodable

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Votes:
    """The count over `drawn` candidates of which `counted` had an answer; v1 is the leader's count, v2 the runner-up's."""

    leader: str | None
    v1: int
    runner_up: str | None
    v2: int
    counted: int
    drawn: int
    distinct: int

    @property
    def margin(self) -> int:
        """How many votes the leader is ahead, v1 - v2."""
        return self.v1 - self.v2

    @property
    def agreement(self) -> float:
        """The leader's share of everything drawn, in [0, 1]: an unparsed sample is no vote but stays in the denominator."""
        return self.v1 / self.drawn if self.drawn else 0.0

    @property
    def unparsed_share(self) -> float:
        """The share of what was drawn that had no answer, in [0, 1]."""
        return 1.0 - self.counted / self.drawn if self.drawn else 0.0


def count_votes(candidates: Sequence[Candidate]) -> Votes:
    """One vote per parsed candidate; ties go to the answer that was submitted earlier."""
    return count_answers(candidate.answer for candidate in in_order(candidates))


def count_answers(answers: Iterable[str | None]) -> Votes:
    """The votes over answers in submission order, where None is drawn but never counted."""
    drawn = list(answers)
    # Counter keeps first appearance and most_common sorts stably, so the earlier of two tied answers comes first.
    ranked = Counter(answer for answer in drawn if answer is not None).most_common()
    (leader, v1), (runner_up, v2) = [*ranked, (None, 0), (None, 0)][:2]
    return Votes(leader, v1, runner_up, v2, sum(n for _, n in ranked), len(drawn), len(ranked))


def in_order(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates as they were submitted, whatever order they came back in."""
    return tuple(sorted(candidates, key=lambda candidate: candidate.index))


def elect(candidates: Sequence[Candidate]) -> int:
    """The position of the first candidate that gave the leading answer; of the first of all where nothing was parsed."""
    leader = count_votes(candidates).leader
    return next((at for at, candidate in enumerate(candidates) if candidate.answer == leader), 0)


def candidate(completion: Completion, *, index: int, model: str, kind: AnswerKind, asked: Mapping[str, Any] = NOTHING) -> Candidate:
    """A completion as evidence, `index` being its place in submission order over all waves of the query.

    `asked` are the request's other fields: tools and a wanted format say what counts as an answer.
    """
    return Candidate(
        index=index,
        model=model,
        text=completion.text,
        answer=read_answer(completion, kind, asked),
        tokens=completion.completion_tokens,
        mean_logprob=completion.mean_logprob,
        logprobs=completion.logprobs,
        finish_reason=completion.finish_reason,
        tool_calls=completion.tool_calls,
    )


def read_answer(completion: Completion, kind: AnswerKind, asked: Mapping[str, Any] = NOTHING) -> str | None:
    """What a completion votes for: its tool calls where it made any, the JSON that was asked for, else the answer in its text."""
    if completion.tool_calls:
        return canonical_calls(completion.tool_calls, asked)
    if asks_for_json(asked):
        return canonical_json(completion.text)
    answer = extract(completion.text, kind)
    return answer if answer is None or is_encodable(answer) else None

"""Stop rules: evidence in, a reason to stop out. Each reads Evidence only and is rebuilt from its spelling.

v1 and v2 are the votes of the leader and the runner-up, n the candidates drawn, K the candidates planned. Rules
compose with `|` and `&`, and `parse_rule(str(rule)) == rule`. Composition follows the stop rules of tenacity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from rheostat.data.errors import ActionError
from rheostat.policies import tails
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.evidence import count_answers, count_votes, in_order
from rheostat.policies.rule_reader import read_rule


class Rule:
    """A stop rule that composes; subclasses give `__call__` and a `spelling`."""

    spelling: ClassVar[str] = ""

    def __call__(self, evidence: Evidence) -> str | None:
        """Why to stop now, or None to go on."""
        raise NotImplementedError

    def __or__(self, other: Rule) -> Rule:
        return AnyOf.of((self, other))

    def __and__(self, other: Rule) -> Rule:
        return AllOf.of((self, other))

    def __str__(self) -> str:
        arguments = ",".join(str(getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return f"{self.spelling}({arguments})" if arguments else self.spelling


@dataclass(frozen=True, slots=True)
class Joined(Rule):
    """Rules made into one; subclasses say how."""

    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Rule:
        """The rules joined, those joined in the same way opened up; a single rule is itself."""
        flat = tuple(part for rule in rules for part in (rule.rules if isinstance(rule, cls) else (rule,)))
        return flat[0] if len(flat) == 1 else cls(flat)


class AnyOf(Joined):
    """Stops as soon as one of its rules does."""

    def __call__(self, evidence: Evidence) -> str | None:
        """The first reason given, in the order written."""
        return next((reason for rule in self.rules if (reason := rule(evidence))), None)

    def __str__(self) -> str:
        return "|".join(map(str, self.rules))


class AllOf(Joined):
    """Stops once all of its rules do."""

    def __call__(self, evidence: Evidence) -> str | None:
        """All reasons, joined, or None while one rule wants to go on."""
        reasons = [rule(evidence) for rule in self.rules]
        return " and ".join(reason for reason in reasons if reason) if all(reasons) else None

    def __str__(self) -> str:
        return "&".join(f"({rule})" if isinstance(rule, AnyOf) else str(rule) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Fixed(Rule):
    """fixed(n): n candidates are enough, whatever they say."""

    n: int
    spelling: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        _check(self.n >= 1, self, "n must be at least 1")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop at n drawn."""
        return str(self) if len(evidence.candidates) >= self.n else None


@dataclass(frozen=True, slots=True)
class Lead(Rule):
    """lead(m): v1 - v2 >= m."""

    m: int
    spelling: ClassVar[str] = "lead"

    def __post_init__(self) -> None:
        _check(self.m >= 1, self, "m must be at least 1")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop at a lead of m votes."""
        return str(self) if count_votes(evidence.candidates).margin >= self.m else None


@dataclass(frozen=True, slots=True)
class Curtail(Rule):
    """curtail: v1 - v2 > K - n, so that all K samples would elect the same answer, for certain."""

    spelling: ClassVar[str] = "curtail"

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop when the samples still to come cannot change the winner."""
        votes = count_votes(evidence.candidates)
        return str(self) if votes.margin > evidence.planned - votes.drawn else None


@dataclass(frozen=True, slots=True)
class Beta(Rule):
    """beta(c): 1 - I_1/2(v1 + 1, v2 + 1) >= c, the posterior chance that the leader beats the runner-up.

    At c = 0.95 a unanimous vote stops after four. Source: Aggarwal et al., 2023 (Adaptive-Consistency).
    """

    c: float = 0.95
    spelling: ClassVar[str] = "beta"

    def __post_init__(self) -> None:
        _check(0.5 < self.c < 1.0, self, "c must be in (0.5, 1)")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop when the leader is ahead with posterior chance c."""
        votes = count_votes(evidence.candidates)
        return str(self) if tails.p_ahead(votes.v1, votes.v2) >= self.c else None


@dataclass(frozen=True, slots=True)
class Dirichlet(Rule):
    """dirichlet(c): the posterior chance that the leader is the mode, under a flat Dirichlet prior, is at least c.

    One answer not seen yet is always among the rivals, so a unanimous vote is judged as by beta(c).
    Source: Aggarwal et al., 2023.
    """

    c: float = 0.95
    spelling: ClassVar[str] = "dirichlet"

    def __post_init__(self) -> None:
        _check(0.5 < self.c < 1.0, self, "c must be in (0.5, 1)")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop when the leader is the mode with posterior chance c."""
        counts = sorted(Counter(c.answer for c in evidence.candidates if c.answer is not None).values(), reverse=True)
        return str(self) if counts and tails.p_mode(counts[0], [*counts[1:], 0]) >= self.c else None


@dataclass(frozen=True, slots=True)
class Esc(Rule):
    """esc(w): the last w votes are unanimous. Source: Li et al., 2024 (early-stopping self-consistency)."""

    w: int
    spelling: ClassVar[str] = "esc"

    def __post_init__(self) -> None:
        _check(self.w >= 2, self, "w must be at least 2")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop when the newest window of w votes has one answer."""
        window = _answers(evidence.candidates)[-self.w :]
        return str(self) if len(window) == self.w and len(set(window)) == 1 else None


@dataclass(frozen=True, slots=True)
class Certified(Rule):
    """certified(alpha): an anytime-valid certificate, wrong with chance at most alpha, that the leader is the mode.

    E = 2^(v1+v2+1) B(v1+1, v2+1) (1 - I_1/2(v1+1, v2+1)) >= 1/alpha_k, with alpha_k = 6 alpha / (pi^2 k^2) for the
    k-th distinct leader and votes counted after it first took the lead: what made it the suspect is no evidence for
    it. It certifies what the model says most often, not that this is right. The bound is Ville's inequality for the
    mixture of likelihood ratios over theta in (1/2, 1), with a union over leaders.
    """

    alpha: float = 0.05
    spelling: ClassVar[str] = "certified"

    def __post_init__(self) -> None:
        _check(0.0 < self.alpha < 1.0, self, "alpha must be in (0, 1)")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop once the present leader is certified."""
        answers = _answers(evidence.candidates)
        if not answers:
            return None
        rank, start = _reign(answers)
        leader = count_answers(answers).leader
        after = Counter(answers[start:])
        v1 = after.pop(leader, 0) if leader is not None else 0
        v2 = max(after.values(), default=0)
        return str(self) if tails.e_value(v1, v2) >= 1.0 / tails.share_of_alpha(self.alpha, rank) else None


@dataclass(frozen=True, slots=True)
class Tokens(Rule):
    """tokens(n): the candidates drawn took n generated tokens or more."""

    n: int
    spelling: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        _check(self.n >= 1, self, "n must be at least 1")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop at n tokens spent on candidates."""
        return str(self) if sum(c.tokens for c in evidence.candidates) >= self.n else None


@dataclass(frozen=True, slots=True)
class Learned(Rule):
    """learned(price): the rule fitted for this action; a sample costs `price` of a right answer.

    Without the fitted rule, which a router's bundle brings, it is lead(2): see `learned_stop`.
    """

    price: float = 0.01
    spelling: ClassVar[str] = "learned"

    def __post_init__(self) -> None:
        _check(0.0 <= self.price < 1.0, self, "price must be in [0, 1)")

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop as the published rule does."""
        return Lead(2)(evidence)


RULES: Mapping[str, type[Rule]] = {
    "fixed": Fixed,
    "lead": Lead,
    "curtail": Curtail,
    "beta": Beta,
    "dirichlet": Dirichlet,
    "esc": Esc,
    "certified": Certified,
    "tokens": Tokens,
    "learned": Learned,
}


def parse_rule(spelling: str) -> Rule:
    """The rule a spelling names, as in `lead(2)|fixed(8)`, `beta(c=0.95)&(fixed(4)|curtail)`; `&` binds tighter.

    Raises:
        ActionError: the spelling cannot be read, names an unknown rule, or an argument is out of range.
    """
    return read_rule(spelling, RULES, any_of=AnyOf.of, all_of=AllOf.of)


def _answers(candidates: Sequence[Candidate]) -> list[str]:
    return [c.answer for c in in_order(candidates) if c.answer is not None]


def _reign(answers: Sequence[str]) -> tuple[int, int]:
    """(which distinct leader the present one is, from 1; how many votes had been cast when it first took the lead)."""
    counts = dict.fromkeys(answers, 0)
    seen_at = {answer: at for at, answer in enumerate(counts)}
    took_lead: dict[str, int] = {}
    leader = answers[0]
    for at, answer in enumerate(answers, start=1):
        counts[answer] += 1
        leader = max(leader, answer, key=lambda a: (counts[a], -seen_at[a]))
        took_lead.setdefault(leader, at)
    return list(took_lead).index(leader) + 1, took_lead[leader]


def _check(condition: bool, rule: Rule, demand: str) -> None:
    if not condition:
        raise ActionError(f"{rule}: {demand}")

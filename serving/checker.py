"""Who looks at answers before they are delivered, and what it says of one. Decides nothing about what follows."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rheostat.data.errors import ConfigError
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate, Context, Toolbox
from rheostat.policies.critique import CHECK_TOKENS
from rheostat.policies.run import Caller, Clock
from rheostat.policies.scoring import Scores
from rheostat.policies.together import all_of
from rheostat.serving.job import Job
from rheostat.serving.plain_call import fixes_form
from rheostat.serving.pool import Pools
from rheostat.serving.settings import VerificationConfig
from rheostat.serving.terms import Terms

SELF, JUDGE = "self", "judge"
BLIND = ("pairwise",)  # scorers that only say which answer is better, and not whether it is good


class Checker:
    """Scores answers, on the bill of their job.

    Args:
        pools: the model servers.
        toolbox: holds the scorers.
        config: names the one that checks, and what an answer needs.

    Raises:
        ConfigError: there is no scorer of the configured name.
    """

    def __init__(self, pools: Pools, toolbox: Toolbox, config: VerificationConfig) -> None:
        self._pools = pools
        self._toolbox = toolbox
        self._at = config.at
        self._by = measure_of(config.by, toolbox)

    async def scores(self, job: Job, terms: Terms, candidates: Sequence[Candidate], among: Sequence[Candidate] = ()) -> list[float | None]:
        """How good each answer is, in [0, 1]; None where that cannot be said, as of a call of a tool.

        An answer that cannot be read is a bad one, but for a text, which may be too long for an answer. A scorer that fails, or
        has neither tokens nor time left, says nothing.

        Args:
            job: pays.
            terms: what the checks may take.
            candidates: the answers.
            among: what they were chosen from, themselves among it; nothing else when left out.
        """
        _make_room(job, len(candidates), terms.limits.tokens)
        return await all_of(self._score(job, terms, each, among or candidates) for each in candidates)

    def passes(self, score: float | None) -> bool | None:
        """Whether that is good enough; None where it is not known."""
        return None if score is None else score >= self._at

    async def _score(self, job: Job, terms: Terms, candidate: Candidate, among: Sequence[Candidate]) -> float | None:
        if candidate.tool_calls:
            return None
        if candidate.answer is None and not _is_prose(job.query, candidate):
            return 0.0
        context = Context(
            model=job.action.model,
            call=Caller(self._pools, job.meter, Clock(terms.deadline_s)),
            left_tokens=lambda: job.meter.left_tokens,
            kind=job.query.kind or "text",
            seed=0,
            toolbox=self._toolbox,
        )
        scores = Scores(job.query, context, self._by)
        # One that compares was fitted on several samples of a question: a lone answer has all the votes there are, and
        # would look agreed on by everybody.
        if scores.sees_all and len(among) < 2:
            return None
        at = among.index(candidate)
        # Scorers are asked about answers only, and of prose the whole is the answer.
        shown = candidate if candidate.answer is not None else replace(candidate, answer=candidate.text)
        return await scores.of([*among[:at], shown, *among[at + 1 :]], at)


def _is_prose(query: Query, candidate: Candidate) -> bool:
    """Whether a question wants words in no particular form, and got some."""
    return query.kind == "text" and not fixes_form(query) and bool(candidate.text.strip())


def measure_of(name: str, toolbox: Toolbox) -> str:
    """Who checks: the scorer of that name; of none the judge, or another scorer that is there, or the model itself.

    Raises:
        ConfigError: no scorer has the name.
    """
    known = [each for each in toolbox.scorers if each not in BLIND]
    if not name:
        return JUDGE if JUDGE in known else next(iter(known), SELF)
    if name not in (*known, SELF):
        raise ConfigError(f"config: verification.by {name!r} is no scorer: known are {', '.join([*known, SELF])}")
    return name


def _make_room(job: Job, n_checks: int, most_tokens: int | None) -> None:
    """Let the job's meter take so many checks more at once, within what the whole request may generate."""
    room = job.ledger.generated + n_checks * CHECK_TOKENS
    job.meter.cap_tokens = max(job.meter.cap_tokens, room if most_tokens is None else min(room, most_tokens))

"""The cheap action first, a dearer one only where the cheap one is not sure of itself.

Knows no strategy by name: stages are actions, built by whoever builds the cascade. Source: Chen et al., 2023 (FrugalGPT).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import ClassVar, NamedTuple

from msgspec.structs import replace

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.schema import Action, Query
from rheostat.policies.arguments import measure, share_of_one
from rheostat.policies.base import Context, Evidence, StopRule, Strategy
from rheostat.policies.drawing import EARLY_WAVES, may_end_early
from rheostat.policies.evidence import count_votes
from rheostat.policies.portion import portion
from rheostat.policies.scoring import LOGPROB, Scores, merit
from rheostat.policies.together import Failed, end_of

Build = Callable[[Action], Strategy]

CONFIDENCE = "confidence"  # agreement where there are several samples, else probability per token
MAX_STAGES = 8
_OPEN_CAP = "@999999999"
_CAP = re.compile(r"@[1-9][0-9]*\Z")


class Stage(NamedTuple):
    """One action of a cascade. Without a model it runs on the cascade's, without a cap it gets an even share of what is left."""

    model: str | None
    strategy: Strategy
    max_tokens: int | None

    @property
    def rule(self) -> StopRule | None:
        """The stop rule spelled in the stage."""
        rule: StopRule | None = getattr(self.strategy, "rule", None)
        return rule


class Cascade:
    """cascade(stages): actions joined by `>`, as in `direct@32>cot>large/self_consistency(k=8)`, the cheapest first.

    The answer of a stage stands where its confidence reaches `at`: one threshold for all, or one for each stage but the
    last, as in `0.9+0.6`. Confidence is the agreement of the stage's samples, or the probability per token of a single
    one; `by` asks a scorer instead.
    """

    name: ClassVar[str] = "cascade"
    single_call: ClassVar[bool] = False

    def __init__(self, stages: str, at: str = "0.8", by: str = CONFIDENCE, *, build: Build) -> None:
        parts = split_stages(stages)
        if not 2 <= len(parts) <= MAX_STAGES:
            raise ActionError(f"cascade(stages={stages}) wants 2 to {MAX_STAGES} actions joined by '>', as in direct@32>cot")
        self.stages = tuple(_stage(part, build) for part in parts)
        self.at = _thresholds(at, len(parts) - 1)
        self.by = measure(self.name, by, but=LOGPROB)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield what each stage yields, behind the candidates of those before; a stage that fails is passed over.

        Raises:
            ActionError: by a scorer that is not there.
            UpstreamError: no stage gave an answer; so does BudgetError.
        """
        scores = None if self.by == CONFIDENCE else Scores(query, context, self.by)
        before: Evidence | None = None
        failure: Failed | None = None
        for stage, threshold in zip(self.stages, (*self.at, 0.0), strict=True):
            stages_left = len(self.stages) - self.stages.index(stage)
            try:
                async for wave in _waves(stage, *_moved(query, context, _drawn(before)), stages_left):
                    evidence = _behind(before, wave)
                    if wave.last and stages_left == 1:
                        yield replace(evidence, last=True, end="complete")
                        return
                    if wave.last and await _confidence(wave, scores) >= threshold:
                        own = len(evidence.candidates) - len(wave.candidates) + wave.chosen
                        yield replace(evidence, chosen=own, last=True, end="confident")
                        return
                    yield replace(evidence, last=False, end="")
                before = evidence
            except (BudgetError, UpstreamError) as error:
                failure = error
        assert failure is not None  # the last stage ends the run or fails
        if before is None:
            raise failure
        yield replace(before, last=True, end=end_of(failure))


def split_stages(stages: str) -> list[str]:
    """The stages of a spelling, split at every `>` outside parentheses."""
    parts, depth = [""], 0
    for character in stages:
        depth += (character == "(") - (character == ")")
        if character == ">" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _stage(part: str, build: Build) -> Stage:
    own_model = "/" not in part.partition("(")[0]
    capped = _CAP.search(part) is not None
    action = Action.parse(f"{'own/' if own_model else ''}{part}{'' if capped else _OPEN_CAP}")
    return Stage(None if own_model else action.model, build(action), action.max_tokens if capped else None)


def _thresholds(at: str, n: int) -> tuple[float, ...]:
    try:
        values = [share_of_one(Cascade.name, "at", float(part)) for part in str(at).split("+")]
    except ValueError as error:
        raise ActionError(f"cascade(at={at}) cannot be read: write thresholds joined by '+', as in 0.9+0.6") from error
    if len(values) not in (1, n):
        raise ActionError(f"cascade(at={at}) has {len(values)} thresholds for {n} stages that may be the last: give one, or {n}")
    return tuple(values * n if len(values) == 1 else values)


async def _waves(stage: Stage, query: Query, context: Context, stages_left: int) -> AsyncIterator[Evidence]:
    """What a stage yields; `last` where it or its rule ends it."""
    cap = context.left_tokens() // stages_left if stage.max_tokens is None else stage.max_tokens
    own = replace(portion(context, max(1, cap), model=stage.model), logprobs=True)
    if may_end_early(stage.strategy) and not own.waves:
        own = replace(own, waves=EARLY_WAVES)
    async for wave in stage.strategy.run(query, own):
        ended = wave.last or (stage.rule is not None and stage.rule(wave) is not None)
        yield replace(wave, last=ended)
        if ended:
            return


def _drawn(before: Evidence | None) -> int:
    """How many samples the stages so far drew."""
    return 0 if before is None else max(each.index for each in before.candidates) + 1


def _moved(query: Query, context: Context, n: int) -> tuple[Query, Context]:
    """The query and the context with seeds behind those of `n` samples: one seed would give the same sample again."""
    own = query.sampling.seed
    if own is not None:
        query = replace(query, sampling=replace(query.sampling, seed=own + n))
    return query, replace(context, seed=context.seed + n)


def _behind(before: Evidence | None, wave: Evidence) -> Evidence:
    """A stage's evidence behind that of the stages before; without an answer of its own the earlier choice stands."""
    if before is None:
        return wave
    moved = tuple(replace(each, index=each.index + _drawn(before)) for each in wave.candidates)
    keeps_earlier = wave.choice.answer is None and before.choice.answer is not None
    return replace(
        wave,
        candidates=(*before.candidates, *moved),
        chosen=before.chosen if keeps_earlier else len(before.candidates) + wave.chosen,
        planned=len(before.candidates) + wave.planned,
    )


async def _confidence(wave: Evidence, scores: Scores | None) -> float:
    """How sure a stage is of its answer, in [0, 1]; 0 where it has none or nothing is known."""
    if scores is not None:
        return await scores.of(wave.candidates, wave.chosen) or 0.0
    if wave.choice.answer is None:
        return 0.0
    if len(wave.candidates) > 1:
        return count_votes(wave.candidates).agreement
    return merit(wave.choice, LOGPROB) or 0.0

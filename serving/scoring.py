"""What judges answers: the configuration of reward models, judge and sandbox, and the scorers made of it.

Nothing here is on unless the operator turns it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Literal

import msgspec

from rheostat.data.sandbox import Limits, Sandbox
from rheostat.policies.base import Scorer
from rheostat.policies.scorers.judge import Judge, PairwiseJudge
from rheostat.policies.scorers.likelihood import Likelihood
from rheostat.policies.scorers.pooling import PoolingClient
from rheostat.policies.scorers.rendering import POCKET_FORMAT, StepFormat
from rheostat.policies.scorers.rewards import OutcomeReward, PairReward, ProcessReward

NAMED = "a name of at most 32 letters in lower case, digits and _ that begins with a letter"
ADDRESS = "scheme, host and port without a path, as in http://127.0.0.1:8101"
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^/\s?#]+$", description=ADDRESS)]
RewardKind = Literal["process", "outcome", "pair", "likelihood"]


class RewardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that reads answers on a vLLM of its own; strategies ask for it by its name, as in `by=prm`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$", description=NAMED)]
    """What strategies call it."""
    url: Url
    """Scheme, host and port, without a path."""
    model: str
    """The name the engine serves it under."""
    kind: RewardKind = "process"
    """`process` asks /pooling about steps, `outcome` /classify about the answer, `pair` /score about question and answer,
    `likelihood` an ordinary engine how likely its model finds the text."""
    api_key_env: str | None = None
    """Environment variable that holds the engine's key."""
    aggregate: Literal["last", "min", "prod"] = "last"
    """What an answer's score is made of: the last step's, the least, or the product."""
    label: int = -1
    """Class of an outcome reward that means good; -1 is the last."""
    before: str = POCKET_FORMAT.before
    """Text before the question in the prompt of a process reward or a likelihood."""
    after_question: str = POCKET_FORMAT.after_question
    """Text between the question and the first step."""
    mark: str = POCKET_FORMAT.mark
    """Text behind every step, where its score is read."""


class JudgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that is asked whether an answer is right (`by=judge`), or which of two is better (`by=pairwise`)."""

    model: str = ""
    """Which of the backends' models; empty is no judge."""


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether code that a model wrote may be run, and within which bounds."""

    enabled: bool = False
    """Off, no such code is ever run."""
    allow_weak: bool = False
    """Also run it where the kernel gives no namespaces: then its network and readable files are not fenced off."""
    limits: Limits = Limits()
    """Bounds of one run."""

    @property
    def sandbox(self) -> Sandbox | None:
        """The sandbox; None where it is off."""
        return Sandbox(self.limits, allow_weak=self.allow_weak) if self.enabled else None


def open_scorers(
    rewards: Sequence[RewardConfig], judge: JudgeConfig, *, keys: Mapping[str, str], stack: AsyncExitStack
) -> dict[str, Scorer]:
    """Scorers by the name that strategies use; their connections are closed with the stack.

    Args:
        rewards: the reward models, each name once.
        judge: the judge.
        keys: API key by reward model, where it has one.
        stack: what closes the connections.
    """
    scorers: dict[str, Scorer] = {}
    for each in rewards:
        client = PoolingClient(each.name, each.url, model=each.model, api_key=keys.get(each.name))
        stack.push_async_exit(client)
        scorers[each.name] = _scorer(each, client)
    if judge.model:
        scorers |= {"judge": Judge(judge.model), "pairwise": PairwiseJudge(judge.model)}
    return scorers


def _scorer(config: RewardConfig, client: PoolingClient) -> Scorer:
    if config.kind == "outcome":
        return OutcomeReward(client, label=config.label)
    if config.kind == "pair":
        return PairReward(client)
    steps = StepFormat(before=config.before, after_question=config.after_question, mark=config.mark)
    if config.kind == "likelihood":
        return Likelihood(client, steps=steps)
    return ProcessReward(client, steps=steps, aggregate=config.aggregate)

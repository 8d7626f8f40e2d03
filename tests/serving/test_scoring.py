from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from rheostat.data.errors import ConfigError
from rheostat.policies.scorers.judge import Judge, PairwiseJudge
from rheostat.policies.scorers.likelihood import Likelihood
from rheostat.policies.scorers.rewards import OutcomeReward, PairReward, ProcessReward
from rheostat.serving.config import parse
from rheostat.serving.scoring import JudgeConfig, RewardConfig, SandboxConfig, open_scorers

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "a"\n'


def reward(name: str, **fields) -> RewardConfig:
    return RewardConfig(name=name, url="http://127.0.0.1:1", model="m", **fields)


async def opened(*rewards: RewardConfig, judge: str = "", keys=None):
    async with AsyncExitStack() as stack:
        return open_scorers(rewards, JudgeConfig(model=judge), keys=keys or {}, stack=stack)


async def test_every_kind_of_reward_has_its_scorer() -> None:
    rewards = [reward("prm"), *(reward(name, kind=kind) for name, kind in (("orm", "outcome"), ("fit", "pair"), ("likely", "likelihood")))]
    scorers = await opened(*rewards, judge="a")

    assert [type(scorer) for scorer in scorers.values()] == [ProcessReward, OutcomeReward, PairReward, Likelihood, Judge, PairwiseJudge]
    assert list(scorers) == ["prm", "orm", "fit", "likely", "judge", "pairwise"]


async def test_nothing_is_on_by_itself() -> None:
    assert await opened() == {}


def test_the_sandbox_is_off_unless_the_operator_turns_it_on() -> None:
    assert SandboxConfig().sandbox is None
    assert parse(BACKEND).sandbox.sandbox is None


def test_a_config_file_names_rewards_judge_and_sandbox() -> None:
    config = parse(
        BACKEND
        + '[judge]\nmodel = "a"\n[[reward]]\nname = "prm"\nurl = "http://127.0.0.1:2"\nmodel = "pocket-prm"\naggregate = "min"\n'
        + "[sandbox]\nenabled = true\n[sandbox.limits]\nwall_s = 2.5\n"
    )

    assert config.judge.model == "a"
    assert config.reward[0].aggregate == "min"
    assert config.sandbox.sandbox is not None
    assert config.sandbox.sandbox.limits.wall_s == 2.5


@pytest.mark.parametrize("wrong", ["[sandbox]\nenabld = true\n", "[sandbox.limits]\nwall_s = 0\n", '[judge]\nmodle = "a"\n'])
def test_an_unknown_key_or_a_value_out_of_range_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        parse(BACKEND + wrong)

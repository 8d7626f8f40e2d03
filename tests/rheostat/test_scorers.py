from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from rheostat import scorers as composed
from rheostat.data.errors import ConfigError
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate
from rheostat.policies.scorers.answer_features import STATISTICS
from rheostat.policies.scorers.learned import LearnedReward, RewardModel
from rheostat.policies.scorers.rewards import ProcessReward
from rheostat.serving.config import parse

PLAIN = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "a"\n'
REWARD = PLAIN + '[[reward]]\nname = "prm"\nurl = "http://127.0.0.1:2"\nmodel = "theirs"\napi_key_env = "PRM_KEY"\n'


class Flat:
    encoder_id = "flat:1"
    dimension = 1

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)


async def scorers_of(config: str, state: Path):
    async with AsyncExitStack() as stack:
        return await composed.scorers_of(parse(config), state, environ={"PRM_KEY": "k"}, stack=stack)


async def test_without_anything_configured_or_trained_there_are_none(tmp_path: Path) -> None:
    assert await scorers_of(PLAIN, tmp_path) == {}


async def test_a_running_pocket_reward_is_the_prm_unless_one_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "_engine_url", lambda *_: "http://127.0.0.1:3")
    mine, theirs = (await scorers_of(PLAIN, tmp_path))["prm"], (await scorers_of(REWARD, tmp_path))["prm"]

    assert isinstance(mine, ProcessReward)
    assert isinstance(theirs, ProcessReward)
    assert (mine._client.url, theirs._client.url) == ("http://127.0.0.1:3", "http://127.0.0.1:2")
    assert theirs._client._headers == {"Authorization": "Bearer k"}


async def test_a_trained_verifier_is_the_orm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    width = 2 + len(STATISTICS)
    arrays = {name: np.ones((1, 1)) for name in ("question_directions", "answer_directions")}
    arrays |= {"mean": np.zeros(width), "scale": np.ones(width), "weights": np.zeros(width), "bias": np.zeros(1)}
    RewardModel(arrays, trees=None, slope=1.0, intercept=0.0, encoder_id="flat:1").save(tmp_path / composed.LEARNED_FOLDER)
    monkeypatch.setattr("rheostat.router.encoder.load_encoder", lambda name, cache_folder: Flat())
    orm = (await scorers_of(PLAIN, tmp_path))["orm"]

    assert isinstance(orm, LearnedReward)
    given = Candidate(index=0, model="a", text="", answer="7", tokens=3)
    assert await orm.score(Query.of_text("?"), given, None) == 0.5  # type: ignore[arg-type]
    monkeypatch.setattr(Flat, "encoder_id", "flat:2")
    with pytest.raises(ConfigError, match="train it again"):
        await scorers_of(PLAIN, tmp_path)

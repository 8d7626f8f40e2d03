"""What judges answers here and now: the configured scorers, and what the state folder holds of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rheostat.policies.base import Scorer
    from rheostat.router.base import Encoder
    from rheostat.serving.config import Config

LEARNED_FOLDER = "verifier"


async def scorers_of(config: Config, state: Path, *, environ: Mapping[str, str], stack: AsyncExitStack) -> dict[str, Scorer]:
    """Scorers by name: `[[reward]]` and `[judge]` of the configuration, then, where it names none, what is in the state folder.

    That is `prm` where an engine `pocket-prm` runs, and `orm` where `rheostat train-verifier` has left a model.

    Args:
        config: what the operator configured.
        state: the folder of engines and models.
        environ: where secrets are.
        stack: closes what is opened.

    Raises:
        ConfigError: the configuration does not fit, or the encoder of the learned model is not on this machine.
        BundleError: the learned model is not as it was written.
    """
    from rheostat.policies.weights import POCKET_REWARD
    from rheostat.serving.config import secret
    from rheostat.serving.scoring import RewardConfig, open_scorers

    rewards, named = list(config.reward), {each.name for each in config.reward}
    url = _engine_url(state, POCKET_REWARD)
    if url is not None and "prm" not in named:
        rewards.append(RewardConfig(name="prm", url=url, model=POCKET_REWARD))
    keys = {each.name: key for each in rewards if (key := secret(each.api_key_env, environ)) is not None}
    scorers = await open_scorers(rewards, config.judge, models=config.models, keys=keys, stack=stack)
    if "orm" not in named and (state / LEARNED_FOLDER).is_dir():
        scorers["orm"] = _learned(state)
    return scorers


def _engine_url(state: Path, name: str) -> str | None:
    from rheostat.policies.engine import Engines

    found = Engines(state / "engines").find(name)
    return None if found is None else found.url


def _learned(state: Path) -> Scorer:
    from rheostat.policies.scorers.learned import LearnedReward, RewardModel

    model = RewardModel.load(state / LEARNED_FOLDER)
    return LearnedReward(model, _encoder(model.encoder_id, state).encode)


def _encoder(encoder_id: str, state: Path) -> Encoder:
    """The encoder a model was fitted with, by the name in front of its hash."""
    from rheostat.data.errors import ConfigError
    from rheostat.router.encoder import load_encoder

    encoder = load_encoder(encoder_id.partition(":")[0], cache_folder=state / "encoders")
    if encoder.encoder_id != encoder_id:
        raise ConfigError(f"the verifier was trained with the encoder {encoder_id}, here is {encoder.encoder_id}: train it again")
    return encoder

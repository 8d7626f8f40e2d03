"""A bundle made by hand: the same chances for every text, so that a test knows what will be decided."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from rheostat.data.schema import Action
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import ErrorBand, Platt, logit
from rheostat.router.encoder import StaticEncoder
from rheostat.router.features import STATISTICS
from rheostat.router.guard import Guard
from rheostat.router.held_out import HeldOut
from rheostat.router.predictor import CostHead, Linear, Predictor

DIRECT, COT, VOTES = "pocket/direct@64", "pocket/cot@256", "pocket/self_consistency(k=4)@768"
ACTIONS = {DIRECT: (0.30, 5.0), COT: (0.75, 60.0), VOTES: (0.92, 240.0)}
DIMENSION = 4
QUERIES = 40


def write_bundle(folder: Path, *, version: str, actions=ACTIONS, queries=QUERIES, **learned) -> Path:
    """Save a bundle whose actions have the given (p_correct, tokens); `learned` are its stop rules and plan.

    Half of its held-out `queries` are fresh.
    """
    encoder = StaticEncoder(_encoder(folder.parent / f"encoder-{version}"))
    width, n = DIMENSION + len(STATISTICS), len(actions)
    p, tokens = (np.array(column) for column in zip(*actions.values(), strict=True))
    zeros, ones = np.zeros((width, n)), np.ones(n)

    def constant(values):
        return Linear(np.zeros(width), np.ones(width), zeros, values)

    costs = CostHead(constant(np.log1p(tokens)), constant(np.log1p(tokens / 1000)), ones, ones, ones, 4.0, 0.25)
    band = ErrorBand(np.array([0.5]), np.array([0.02]), np.array([0.02]))
    predictor = Predictor((constant(logit(p)),), (1.0,), Platt(ones, np.zeros(n)), band, costs)
    spread = np.tile(p, (queries, 1))
    canary = np.zeros((2, width), np.float32)
    held_out = HeldOut.known(spread, spread, np.tile(tokens, (queries, 1)), np.full((queries, n), 10.0))
    held_out = held_out._replace(fresh=np.arange(queries) % 2 == 1)
    support = np.eye(DIMENSION, dtype=np.float32)
    bundle = Bundle(
        version=version,
        actions=tuple(Action.parse(spelling) for spelling in actions),
        encoder_id=encoder.encoder_id,
        encoder_name="static",
        predictor=predictor,
        guard=Guard(support, 3.0, 0),
        held_out=held_out,
        canary=canary,
        canary_p=predictor.p_correct(canary),
        encoder_folder=encoder.folder,
        **learned,
    )
    return bundle.save(folder)


def _encoder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "what": 1, "is": 2, "plus": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": np.eye(DIMENSION, dtype=np.float16)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    return folder

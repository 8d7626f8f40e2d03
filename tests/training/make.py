"""Bundles and tables of a world with easy and hard questions, where the right router is known."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from rheostat.data.schema import Action
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import ErrorBand, Platt
from rheostat.router.encoder import StaticEncoder
from rheostat.router.features import feature_rows
from rheostat.router.guard import Guard
from rheostat.router.held_out import HeldOut
from rheostat.router.predictor import CostHead, Linear, Predictor
from rheostat.training.outcomes import OutcomeTable

ACTIONS = ("m/direct@16", "m/cot@256")
TOKENS = np.array([10.0, 100.0])
DIMENSION = 4


def encoder(folder: Path) -> StaticEncoder:
    """Three words, a vector each."""
    vectors = np.eye(3, DIMENSION, dtype=np.float32) * np.array([[10.0], [10.0], [0.01]], dtype=np.float32)
    return word_level_encoder(folder, ["easy", "hard", "?"], vectors)


def word_level_encoder(folder: Path, words: list[str], vectors: np.ndarray | None = None) -> StaticEncoder:
    """A static encoder that knows these words, by random vectors if none are given; others are like the last."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    drawn = np.random.default_rng(0).standard_normal((len(words), DIMENSION)).astype(np.float32)
    save_file({"embeddings": drawn if vectors is None else vectors}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "model2vec"}')
    return StaticEncoder(folder)


def table(n: int = 240, *, actions: tuple[str, ...] = ACTIONS) -> OutcomeTable:
    """Every other question is hard: the cheap action fails there, the dear one is right 9 times in 10 everywhere."""
    hard = np.arange(n) % 2 == 1
    dear = np.arange(n) % 10 != 3
    reward = np.stack([~hard, dear], axis=1).astype(float)
    cells = np.ones((n, 2))
    return OutcomeTable(
        query_ids=tuple(f"q{i}" for i in range(n)),
        texts=tuple("hard" if is_hard else "easy" for is_hard in hard),
        datasets=("made",) * n,
        levels=(1,) * n,
        actions=actions,
        reward=reward,
        tokens=cells * TOKENS,
        prompt_tokens=cells,
        latency_s=cells,
        weight=cells,
    )


def bundle(folder: Path, *, knows: bool, version: str = "0") -> Bundle:
    """A router that tells easy from hard, or one that thinks both actions equally good everywhere."""
    static, held = encoder(folder / "encoder"), table(100)
    rows = feature_rows(static.encode(list(held.texts)), held.texts)
    predictor = _predictor(rows.shape[1], knows=knows)
    p = predictor.p_correct(rows)
    return Bundle(
        version=version,
        actions=tuple(map(Action.parse, ACTIONS)),
        encoder_id=static.encoder_id,
        encoder_name="static",
        predictor=predictor,
        guard=Guard(rows[:10, :DIMENSION], 2.0, 1),
        held_out=HeldOut.known(p, held.reward, held.tokens, held.prompt_tokens),
        canary=rows[:2],
        canary_p=p[:2],
        encoder_folder=static.folder,
    )


def _predictor(d: int, *, knows: bool) -> Predictor:
    weights = np.zeros((d, 2))
    if knows:
        weights[:2, 0] = [4.0, -4.0]
    one = np.ones(2)
    band = ErrorBand(np.array([0.0, 1.0]), np.zeros(2), np.zeros(2))
    logits = _linear(d, weights, np.array([0.0, 2.0]) if knows else one)
    costs = CostHead(_linear(d, np.zeros((d, 2)), np.log1p(TOKENS)), _linear(d, np.zeros((d, 2)), one), one, one, one, 1.0, 0.0)
    return Predictor((logits,), (1.0,), Platt(one, np.zeros(2)), band, costs)


def _linear(d: int, weights, bias) -> Linear:
    return Linear(np.zeros(d), np.ones(d), weights, bias)

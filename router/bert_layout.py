"""Which sentence-transformers folders are a plain BERT, and what has to be known of one beyond its weights.

Anything that would give other vectors than the library's is no plain BERT: another architecture, precision or pooling, a
prompt put before every text, settings that overrule the tokenizer's file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

MEAN, FIRST = "mean", "first"
_POOLING = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": FIRST}
_PARTS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_ARCHITECTURE = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
_SPECIAL = ("TemplateProcessing", "BertProcessing")  # post-processors that put a token before a text and one behind it
_EXACT = ("F32", "I64")  # the second is the numbers of places, which are no weights


class Layout(NamedTuple):
    """What the graph has to know beyond the weights; `pooling` is `mean` or `first`, of the last layer's tokens."""

    dimension: int
    n_layers: int
    n_heads: int
    epsilon: float
    pooling: str
    max_tokens: int


def layout(folder: Path) -> Layout | None:
    """The layout of a sentence-transformers folder, None for any that is no plain BERT."""
    try:
        config, limits = _read(folder, "config.json"), _read(folder, "sentence_bert_config.json")
        pooled = [name for name, asked in _read(folder, "1_Pooling/config.json").items() if name.startswith("pooling_mode_") and asked]
        if not (_is_plain(config, limits, folder) and _reads_plainly(folder) and len(pooled) == 1):
            return None
        return Layout(
            dimension=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            pooling=_POOLING[pooled[0]],
            max_tokens=min(config["max_position_embeddings"], limits["max_seq_length"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_plain(config: dict[str, Any], limits: dict[str, Any], folder: Path) -> bool:
    """Whether the model is a BERT of single precision with a pooling behind it, and nothing else."""
    kinds = [part["type"].rpartition(".")[2] for part in _read(folder, "modules.json")]
    own = all(config.get(name, usual) == usual for name, usual in _ARCHITECTURE.items())
    return (
        own and "model_type" in config and kinds in _PARTS and not limits.get("do_lower_case") and _is_exact(folder / "model.safetensors")
    )


def _reads_plainly(folder: Path) -> bool:
    """Whether texts are taken apart as the tokenizer's file says, with nothing before them."""
    tokenizer, settings = _read(folder, "tokenizer.json"), _read(folder, "tokenizer_config.json", default={})
    lowers = tokenizer["normalizer"].get("lowercase")
    prompted = _read(folder, "config_sentence_transformers.json", default={}).get("default_prompt_name")
    return settings.get("do_lower_case", lowers) == lowers and tokenizer["post_processor"]["type"] in _SPECIAL and prompted is None


def _is_exact(weights: Path) -> bool:
    """Whether all numbers are of single precision; the head of the file tells."""
    with weights.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return all(entry["dtype"] in _EXACT for name, entry in head.items() if name != "__metadata__")


def _read(folder: Path, name: str, *, default: Any = None) -> Any:
    path = folder / name
    return default if default is not None and not path.exists() else json.loads(path.read_bytes())

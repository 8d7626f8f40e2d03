"""A sentence encoder of two small layers with random weights, in the files sentence-transformers writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from rheostat.router.encoder import minilm_folder

DIMENSION, MAX_TOKENS = 32, 64
OF_THE_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "modules.json")


def small_bert(folder: Path, *, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """Write the encoder into a new folder."""
    torch.manual_seed(0)
    model = BertModel(BertConfig(hidden_size=DIMENSION, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **config)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model.to(dtype).save_pretrained(folder)
    for name in OF_THE_TOKENIZER:
        shutil.copy(minilm_folder() / name, folder / name)
    (folder / "1_Pooling").mkdir()
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True})
    write(folder, "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    return folder


def write(folder: Path, name: str, values: Any) -> None:
    """Write a file of settings."""
    (folder / name).write_text(json.dumps(values))


def change(folder: Path, name: str, **values: Any) -> None:
    """Change some of the settings in a file."""
    path = folder / name
    write(folder, name, (json.loads(path.read_bytes()) if path.exists() else {}) | values)

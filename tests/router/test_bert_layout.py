"""Which folders are a plain BERT: those that give the library's vectors, and no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file

from rheostat.router.bert_layout import FIRST, MEAN, layout
from rheostat.router.encoder import minilm_folder
from tests.router.small_bert import change, small_bert, write


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return small_bert(tmp_path_factory.mktemp("plain") / "bert")


def tokenizer_with(folder: Path, **parts: object) -> None:
    change(folder, "tokenizer.json", **parts)


OTHERS = {
    "another kind": lambda folder: change(folder, "config.json", model_type="mpnet"),
    "no kind": lambda folder: write(folder, "config.json", {}),
    "another activation": lambda folder: change(folder, "config.json", hidden_act="relu"),
    "relative places": lambda folder: change(folder, "config.json", position_embedding_type="relative_key"),
    "a decoder": lambda folder: change(folder, "config.json", is_decoder=True),
    "two poolings": lambda folder: change(folder, "1_Pooling/config.json", pooling_mode_max_tokens=True),
    "no pooling": lambda folder: write(folder, "1_Pooling/config.json", {}),
    "another pooling": lambda folder: write(folder, "1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
    "no limit": lambda folder: change(folder, "sentence_bert_config.json", max_seq_length=None),
    "lowercased before": lambda folder: change(folder, "sentence_bert_config.json", do_lower_case=True),
    "a layer behind the pooling": lambda folder: write(
        folder, "modules.json", [*json.loads((folder / "modules.json").read_bytes()), {"type": "sentence_transformers.models.Dense"}]
    ),
    "a prompt before every text": lambda folder: change(folder, "config_sentence_transformers.json", default_prompt_name="query"),
    "an overruled tokenizer": lambda folder: change(folder, "tokenizer_config.json", do_lower_case=False),
    "no special tokens": lambda folder: tokenizer_with(folder, post_processor=None),
    "no normaliser": lambda folder: tokenizer_with(folder, normalizer=None),
    "no tokenizer file": lambda folder: (folder / "tokenizer.json").unlink(),
    "no weights of this form": lambda folder: (folder / "model.safetensors").unlink(),
    "half of its head": lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100]),
    "nothing": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_is_left_to_the_library(plain, tmp_path, what):
    folder = Path(shutil.copytree(plain, tmp_path / "other"))
    assert layout(folder) is not None
    OTHERS[what](folder)
    assert layout(folder) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_left_to_the_library(tmp_path, dtype):
    assert layout(small_bert(tmp_path / "half", dtype=dtype)) is None


def test_the_layout_is_read_from_the_folder(plain, tmp_path):
    assert layout(minilm_folder()) == (384, 6, 12, 1e-12, MEAN, 256)
    folder = Path(shutil.copytree(plain, tmp_path / "first"))
    write(folder, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    change(folder, "sentence_bert_config.json", max_seq_length=1_000)
    its = layout(folder)
    assert its is not None
    assert (its.pooling, its.max_tokens) == (FIRST, 512)


def test_numbers_of_places_are_no_weights(plain, tmp_path):
    folder = Path(shutil.copytree(plain, tmp_path / "places"))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {**weights, "embeddings.position_ids": torch.arange(512)[None].numpy()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    assert layout(folder) is not None

"""BERT encoders: the vectors that sentence-transformers gives, without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from safetensors.numpy import load_file, save_file

from rheostat.data.errors import ConfigError
from rheostat.router.bert import BATCH, BertEncoder, _n_threads
from rheostat.router.bert_graph import graph
from rheostat.router.bert_layout import layout
from rheostat.router.encoder import SentenceEncoder, load_encoder, minilm_folder
from tests.router.small_bert import small_bert, write

TEXTS = [
    "",
    "What is 3 + 4?",
    "Add 9 and 12.",
    "Wörter außer der Reihe, 東京",
    "a\ud800b",
    "word " * 2_000,
    *(f"{n} apples" * n for n in range(1, 60)),
]


def encoders(folder: Path) -> tuple[BertEncoder, SentenceEncoder]:
    """The folder by both ways."""
    mine = load_encoder(str(folder))
    assert isinstance(mine, BertEncoder)
    return mine, SentenceEncoder(folder, encoder_id="reference")


def first_token(folder: Path) -> None:
    write(
        folder, "1_Pooling/config.json", {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    )


def old_names(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    named = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in weights.items()
    }
    save_file({f"bert.{name}": each for name, each in named.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def without_norm(folder: Path) -> None:
    write(
        folder,
        "modules.json",
        [
            {"type": f"sentence_transformers.models.{kind}", "name": str(at), "idx": at, "path": path}
            for at, (kind, path) in enumerate([("Transformer", ""), ("Pooling", "1_Pooling")])
        ],
    )


@pytest.mark.parametrize("change", [lambda folder: None, first_token, old_names, without_norm])
def test_vectors_and_tokens_of_any_plain_bert_are_those_of_the_library(tmp_path, change):
    folder = small_bert(tmp_path / "bert")
    change(folder)
    mine, reference = encoders(folder)
    assert len(TEXTS) > 2 * BATCH
    vectors, tokens = mine.read(TEXTS)
    np.testing.assert_allclose(vectors, reference.encode(TEXTS), atol=3e-6)
    assert tokens == reference.tokens(TEXTS)
    assert mine.encode([]).shape == (0, mine.dimension)


def test_vectors_of_minilm_are_those_of_the_library():
    mine, reference = load_encoder("minilm"), SentenceEncoder(minilm_folder(), encoder_id="reference")
    assert isinstance(mine, BertEncoder)
    np.testing.assert_allclose(mine.encode(TEXTS), reference.encode(TEXTS), atol=2e-6)


def test_a_text_has_the_same_vector_alone_and_among_others():
    encoder = load_encoder("minilm")
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(together[1], encoder.encode([TEXTS[1]])[0], atol=1e-6)


def test_rounded_vectors_are_near_the_exact_ones_and_keep_texts_apart():
    exact, rounded = load_encoder("minilm").encode(TEXTS), load_encoder("minilm-int8").encode(TEXTS)
    assert (exact * rounded).sum(axis=1).min() > 0.96
    np.testing.assert_allclose(exact @ exact.T, rounded @ rounded.T, atol=0.06)
    assert not np.array_equal(exact, rounded)


def test_a_rounded_vector_is_the_same_in_any_company():
    encoder = load_encoder("minilm-int8")
    together = encoder.encode(TEXTS)
    for at in (0, 1, 5, len(TEXTS) - 1):
        np.testing.assert_array_equal(together[at], encoder.encode([TEXTS[at]])[0])


def test_rounded_weights_have_names_of_their_own_and_leave_sums_of_two_products_room_in_16_bits():
    assert load_encoder("minilm-int8").encoder_id.partition(":")[0] == "minilm-int8"
    folder = minilm_folder()
    its = layout(folder)
    assert its is not None
    model = graph(load_file(folder / "model.safetensors"), its, whole_numbers=True)
    whole = [numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type == TensorProto.INT8]
    assert len(whole) == 4 * its.n_layers
    assert {2 * 255 * int(np.abs(each.astype(int)).max()) < 2**15 for each in whole} == {True}


def test_a_column_without_weights_is_rounded_to_none(tmp_path):
    folder = small_bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.intermediate.dense.weight"][3] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    its = layout(folder)
    assert its is not None
    exact, rounded = (BertEncoder(folder, its, encoder_id="a", whole_numbers=whole).encode(TEXTS) for whole in (False, True))
    assert (exact * rounded).sum(axis=1).min() > 0.96


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    folder = small_bert(tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    save_file({name: array for name, array in weights.items() if "layer.1" not in name}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"half.*encoder\.layer\.1"):
        load_encoder(str(folder))


@pytest.mark.parametrize("damage", ["shape", "cut", "tokenizer"])
def test_damaged_files_are_a_sentence(tmp_path, damage):
    folder = small_bert(tmp_path / "damaged")
    path = folder / "model.safetensors"
    weights = load_file(path)
    if damage == "shape":
        name = "encoder.layer.0.intermediate.dense.weight"
        save_file({**weights, name: np.ascontiguousarray(weights[name][:7])}, path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        tokenizer = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(tokenizer.replace('"WordPiece"', '"WordPieces"'))
    with pytest.raises(ConfigError, match=r"damaged do not fit together"):
        load_encoder(str(folder))


def test_without_the_runtime_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"rheostat\[encoders\]"):
        load_encoder("minilm")


@pytest.mark.parametrize(("asked", "n_threads"), [("3", 3), ("1", 1)])
def test_threads_are_those_asked_for(monkeypatch, asked, n_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _n_threads() == n_threads


@pytest.mark.parametrize("asked", ["0", "many", ""])
def test_threads_are_one_a_core_where_no_number_is_asked_for(monkeypatch, asked):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    n_threads = _n_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert n_threads == _n_threads() >= 1


def test_a_text_is_encoded_without_torch():
    encodes = "from rheostat.router.encoder import load_encoder; load_encoder('minilm').encode(['a'])"
    code = f"import sys; {encodes}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_id_of_a_folder_names_all_that_makes_its_vectors(tmp_path):
    folder = small_bert(tmp_path / "bert")
    before = load_encoder(str(folder)).encoder_id
    assert load_encoder(str(shutil.copytree(folder, tmp_path / "copy" / "bert"))).encoder_id == before
    first_token(folder)
    assert load_encoder(str(folder)).encoder_id != before

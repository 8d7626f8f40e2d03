"""BERT encoders: the vectors that sentence-transformers gives, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rheostat.data.errors import ConfigError
from rheostat.router.bert import BATCH, BertEncoder, _n_threads
from rheostat.router.bert_graph import FIRST, MEAN, layout
from rheostat.router.encoder import SentenceEncoder, load_encoder, minilm_folder

TEXTS = [
    "",
    "What is 3 + 4?",
    "Add 9 and 12.",
    "Wörter außer der Reihe, 東京",
    "a\ud800b",
    "word " * 2_000,
    *(f"{n} apples" * n for n in range(1, 60)),
]


@pytest.fixture(scope="module")
def reference() -> SentenceEncoder:
    return SentenceEncoder(minilm_folder(), encoder_id="reference")


def changed(folder: Path, to: Path, name: str, **values: object) -> Path:
    """A copy of a model with other values in one of its files."""
    copy = Path(shutil.copytree(folder, to))
    (copy / name).write_text(json.dumps(json.loads((copy / name).read_bytes()) | values))
    return copy


def test_vectors_and_tokens_are_those_of_the_library(reference):
    encoder = load_encoder("minilm")
    assert isinstance(encoder, BertEncoder)
    assert len(TEXTS) > 2 * BATCH
    vectors, tokens = encoder.read(TEXTS)
    np.testing.assert_allclose(vectors, reference.encode(TEXTS), atol=2e-6)
    assert tokens == reference.tokens(TEXTS)
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_a_text_has_the_same_vector_alone_and_among_others():
    encoder = load_encoder("minilm")
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(together[1], encoder.encode([TEXTS[1]])[0], atol=1e-6)


def test_the_first_token_stands_for_a_text_where_the_folder_says_so(tmp_path):
    folder = changed(
        minilm_folder(), tmp_path / "first", "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True
    )
    its = layout(folder)
    assert its is not None
    assert its.pooling == FIRST
    vectors = BertEncoder(folder, its, encoder_id="first").encode(TEXTS[:4])
    np.testing.assert_allclose(vectors, SentenceEncoder(folder, encoder_id="first").encode(TEXTS[:4]), atol=2e-6)


def test_the_layout_is_read_from_the_folder():
    its = layout(minilm_folder())
    assert its == (384, 6, 12, 1e-12, MEAN, 256)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"model_type": "mpnet"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}),
        ("sentence_bert_config.json", {"max_seq_length": None}),
    ],
)
def test_any_other_architecture_is_left_to_the_library(tmp_path, name, values):
    assert layout(changed(minilm_folder(), tmp_path / "other", name, **values)) is None


def test_a_folder_with_a_layer_behind_the_pooling_is_left_to_the_library(tmp_path):
    folder = Path(shutil.copytree(minilm_folder(), tmp_path / "dense"))
    parts = json.loads((folder / "modules.json").read_bytes())
    (folder / "modules.json").write_text(json.dumps([*parts, {"type": "sentence_transformers.models.Dense"}]))
    assert layout(folder) is None
    assert layout(tmp_path) is None


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    folder = Path(shutil.copytree(minilm_folder(), tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    save_file({name: array for name, array in weights.items() if "layer.5" not in name}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"encoder\.layer\.5"):
        load_encoder(str(folder))


def test_without_the_runtime_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"rheostat\[encoders\]"):
        load_encoder("minilm")


@pytest.mark.parametrize(("asked", "n_threads"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_threads_are_those_asked_for_or_one_a_core(monkeypatch, asked, n_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = _n_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert alone == 1
    assert _n_threads() == n_threads if n_threads else _n_threads() >= 1


def test_a_text_is_encoded_without_torch():
    encodes = "from rheostat.router.encoder import load_encoder; load_encoder('minilm').encode(['a'])"
    code = f"import sys; {encodes}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Encoders: unit vectors for any text, the same every time, without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from rheostat.data.errors import ConfigError
from rheostat.router import encoder as encoders
from rheostat.router.encoder import (
    STATIC_DIMENSION,
    SentenceEncoder,
    StaticEncoder,
    _principal,
    copy_static,
    distil_static,
    load_encoder,
    minilm_folder,
)
from rheostat.router.readable import MAX_CHARACTERS


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words in two dimensions, in the files a distilled encoder has."""
    folder = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer(WordLevel({"add": 0, "sort": 1, "none": 2}, unk_token="none"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": np.array([[3, 0], [0, 2], [0, 0]], np.float16)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    return folder


@pytest.fixture(scope="module")
def static(static_folder: Path) -> StaticEncoder:
    return StaticEncoder(static_folder)


def test_static_vectors_are_means_of_unit_norm(static):
    rows = static.encode(["add", "sort sort", "add sort"])
    np.testing.assert_allclose(rows, [[1, 0], [0, 1], [3 / 13**0.5, 2 / 13**0.5]], rtol=1e-3)
    assert static.encode([]).shape == (0, 2)


@given(st.text(st.characters()))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_text_has_a_vector_of_norm_one(static, text):
    assert np.linalg.norm(static.encode([text])[0]) == pytest.approx(1.0, abs=1e-5)


def test_long_texts_are_cut(static):
    text = "add " * 50_000
    np.testing.assert_array_equal(static.encode([text]), static.encode([text[:MAX_CHARACTERS]]))


def test_id_follows_the_weights(static, static_folder, tmp_path):
    copy_static(static, tmp_path / "copy")
    assert StaticEncoder(tmp_path / "copy").encoder_id == static.encoder_id
    save_file({"embeddings": np.ones((3, 2), np.float16)}, tmp_path / "copy" / "model.safetensors")
    assert StaticEncoder(tmp_path / "copy").encoder_id != static.encoder_id


def test_folder_of_static_weights_is_loaded_by_its_path(static, static_folder):
    assert load_encoder(str(static_folder)).encoder_id == static.encoder_id


@pytest.mark.parametrize("name", ["static", "no/such/folder"])
def test_what_cannot_be_loaded_says_what_to_write(name):
    with pytest.raises(ConfigError, match=r"pass cache_folder|is no encoder"):
        load_encoder(name)


def test_folder_without_static_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no static encoder"):
        StaticEncoder(tmp_path)


def test_distilling_is_done_once_and_found_in_the_cache(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    calls = []

    def vectors(source: Path, n_tokens: int) -> np.ndarray:
        calls.append(n_tokens)
        return rng.normal(size=(n_tokens, STATIC_DIMENSION + 10))

    monkeypatch.setattr(encoders, "_token_vectors", vectors)
    folder = distil_static(tmp_path)
    assert distil_static(tmp_path) == folder
    assert len(calls) == 1
    encoder = load_encoder("static", cache_folder=tmp_path)
    assert encoder.dimension == STATIC_DIMENSION
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_principal_coordinates_keep_distances_of_flat_data():
    flat = np.random.default_rng(0).normal(size=(50, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    reduced = _principal(flat, 2)
    np.testing.assert_allclose(np.linalg.norm(reduced[0] - reduced[1]), np.linalg.norm(flat[0] - flat[1]))
    np.testing.assert_array_equal(reduced, _principal(flat, 2))


def test_minilm_places_like_with_like():
    encoder = load_encoder("minilm")
    rows = encoder.encode(["What is 3 + 4?", "Add 9 and 12.", "Which day follows Monday?", "x" * 120_000])
    assert rows.shape == (4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    assert encoder.encoder_id.startswith("minilm:")


def test_a_sentence_transformers_folder_of_any_architecture_is_loaded_by_its_path(tmp_path):
    folder = Path(shutil.copytree(minilm_folder(), tmp_path / "largest"))
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 384, "pooling_mode_max_tokens": true}')
    encoder = load_encoder(str(folder))
    assert isinstance(encoder, SentenceEncoder)
    assert encoder.encoder_id.startswith("largest:")
    assert encoder.encode([]).shape == (0, encoder.dimension)
    vectors, tokens = encoder.read(["What is 3 + 4?", "\ud800" * 9_000])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert tokens[0] == load_encoder("minilm").tokens(["What is 3 + 4?"])[0]


def test_token_vectors_come_from_the_model_in_batches():
    rows = encoders._token_vectors(minilm_folder(), 1500)
    assert rows.shape == (1500, 384)
    assert np.isfinite(rows).all()

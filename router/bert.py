"""BERT sentence encoders on ONNX Runtime: the vectors that sentence-transformers gives, in half its time and without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ConfigError
from rheostat.router.bert_graph import IDS, MASK, VECTORS, graph
from rheostat.router.bert_layout import Layout
from rheostat.router.readable import readable

Vectors = npt.NDArray[np.float32]

BATCH = 32


class BertEncoder:
    """A sentence-transformers folder whose layout is known.

    Args:
        folder: the model's.
        its: layout of the folder, as `bert_layout.layout` found it.
        encoder_id: names the weights, and that they are rounded.
        whole_numbers: multiply by weights of a byte: a third of the time, vectors some .008 (1 - cosine) off.

    Raises:
        ConfigError: ONNX Runtime is not installed, or the weights do not fit the layout.
    """

    def __init__(self, folder: Path, its: Layout, *, encoder_id: str, whole_numbers: bool = False) -> None:
        from tokenizers import Tokenizer

        self.encoder_id = encoder_id
        self.dimension = its.dimension
        try:
            self._whole, self._cut = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
        except Exception as error:  # the library raises nothing narrower
            raise _unfit(folder, error) from error
        for tokenizer in (self._whole, self._cut):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self._cut.enable_truncation(its.max_tokens)
        self._batch = 1 if whole_numbers else BATCH  # rounded with others, a text would have another vector in every company
        self._session = _session(folder, its, whole_numbers=whole_numbers)

    def encode(self, texts: list[str]) -> Vectors:
        """(n, dimension) rows of norm one."""
        rows = [each.ids for each in self._cut.encode_batch_fast([readable(text) for text in texts])]
        vectors = np.empty((len(rows), self.dimension), np.float32)
        # Rows of like length together: what fills one up costs as much as what it says.
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        for start in range(0, len(order), self._batch):
            batch = order[start : start + self._batch]
            vectors[batch] = self._run([rows[at] for at in batch])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of each text, also of the part beyond what the model reads."""
        return [each.ids for each in self._whole.encode_batch_fast([readable(text) for text in texts], add_special_tokens=False)]

    def read(self, texts: list[str]) -> tuple[Vectors, list[list[int]]]:
        """Vectors and tokens; the tokens are nothing next to the model."""
        return self.encode(texts), self.tokens(texts)

    def _run(self, rows: list[list[int]]) -> Vectors:
        ids = np.zeros((len(rows), len(rows[-1])), np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)], mask[at, : len(row)] = row, 1
        return np.asarray(self._session.run([VECTORS], {IDS: ids, MASK: mask})[0])


def _session(folder: Path, its: Layout, *, whole_numbers: bool) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("BERT encoders run on ONNX Runtime, which is not installed: pip install 'rheostat[encoders]'") from error
    from safetensors.numpy import load_file

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _n_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between requests its threads would hold their cores
    try:
        model = graph(load_file(folder / "model.safetensors"), its, whole_numbers=whole_numbers).SerializeToString()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each of the three libraries raises its own when a file is not what it seems
        raise _unfit(folder, error) from error


def _unfit(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(f"the files in {folder} do not fit together ({error!r}): fetch the folder again")


def _n_threads() -> int:
    """As many as this process may use cores, or as OMP_NUM_THREADS says, which ONNX Runtime does not look at."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

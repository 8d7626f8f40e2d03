"""The task memory: solved examples, found again by the meaning of their questions.

    memory.json          which encoder, and the examples
    vectors.safetensors  one row an example

Knows no encoder and no model. With another encoder than the one it was saved with, its questions are embedded again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.policies.base import Embed, Example

EXAMPLES_FILE = "memory.json"
VECTORS_FILE = "vectors.safetensors"
_TABLE = "vectors"


class _Saved(msgspec.Struct, frozen=True):
    """What memory.json holds."""

    encoder_id: str
    examples: list[tuple[str, str]]


class TaskMemory:
    """Solved examples with the vectors of their questions.

    Args:
        examples: in the order in which prompts show them.
        embed: text to unit vectors.
        encoder_id: names the weights behind `embed`.
        vectors: (n, d) of the questions; made when left out.

    Raises:
        DatasetError: there are no examples.
    """

    def __init__(
        self, examples: Sequence[Example], embed: Embed, *, encoder_id: str, vectors: npt.NDArray[np.float32] | None = None
    ) -> None:
        if not examples:
            raise DatasetError("a task memory of no examples cannot help: give some solved questions")
        self.examples = tuple(examples)
        self._embed = embed
        self._encoder_id = encoder_id
        self._vectors = embed([example.question for example in examples]) if vectors is None else vectors

    def nearest(self, question: str, k: int) -> tuple[Example, ...]:
        """At most `k` examples by cosine, in the memory's order; never the very question, whose answer would be given away."""
        similarity = self._vectors @ self._embed([question])[0]
        ranked = np.argsort(-similarity, kind="stable")
        asked = question.strip()
        others = (int(at) for at in ranked if self.examples[int(at)].question.strip() != asked)
        return tuple(self.examples[at] for at in sorted(itertools.islice(others, k)))

    def save(self, folder: Path) -> None:
        """Write the memory into a folder, which is made when missing."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({_TABLE: np.ascontiguousarray(self._vectors, dtype=np.float32)}, folder / VECTORS_FILE)
        pairs = [(question, reply) for question, reply in self.examples]
        (folder / EXAMPLES_FILE).write_bytes(msgspec.json.encode(_Saved(self._encoder_id, pairs)))

    @classmethod
    def load(cls, folder: Path, embed: Embed, *, encoder_id: str) -> TaskMemory:
        """The memory that was saved there.

        Raises:
            DatasetError: there is none, or its files do not fit together.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            saved = msgspec.json.decode((folder / EXAMPLES_FILE).read_bytes(), type=_Saved)
            vectors = load_file(folder / VECTORS_FILE).get(_TABLE) if saved.encoder_id == encoder_id else None
        except (OSError, msgspec.DecodeError, SafetensorError) as error:
            raise DatasetError(f"{folder} holds no task memory ({error}): build it again with rheostat memory") from error
        if vectors is not None and len(vectors) != len(saved.examples):
            raise DatasetError(f"{folder} has {len(vectors)} vectors for {len(saved.examples)} examples: build it again")
        return cls([Example(*each) for each in saved.examples], embed, encoder_id=encoder_id, vectors=vectors)

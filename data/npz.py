"""Arrays in an npz file, read without pickle, whatever may have become of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file, by name.

    Raises:
        ValueError: the file is not there, is no npz, or is damaged; says what numpy makes of it.
    """
    try:
        # numpy leaves the file open when an archive turns out to be garbage, so it gets an open one.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # what a damaged file raises depends on the byte: zipfile's, zlib's, numpy's and the tokenizer's errors
        raise ValueError(f"{path.name}: {error!r}") from error

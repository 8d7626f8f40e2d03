"""What a cell may use. Knows nothing of how it is enforced."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one cell; each holds for all its processes together or for every one, as said."""

    wall_s: Positive = 10.0
    """Seconds after which everything in the cell is killed."""
    cpu_s: Count = 5
    """Processor seconds of each process."""
    memory_mb: Count = 512
    """Address space of each process."""
    processes: Count = 16
    """Processes and threads at a time, all together."""
    file_kb: Count = 1024
    """Largest file of each process, and the most that is kept of what the cell prints."""
    scratch_mb: Count = 16
    """All files together, where the kernel gives the cell a file system of its own."""

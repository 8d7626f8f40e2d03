"""Small ReLU networks fitted with torch and handed over as plain arrays.

The weights handed over are a running average over the last steps, which settles what single steps leave jumpy.
Source: Polyak and Juditsky 1992 (averaging).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rheostat.router.base import Array
from rheostat.router.sequential import Network, Rows

if TYPE_CHECKING:
    import torch

BATCH = 256
AVERAGING = 0.998


class Fitting:
    """One network while it is fitted; calls to `epoch` may bring new rows and a new learning rate."""

    def __init__(self, widths: Sequence[int], *, seed: int, dropout: float = 0.05, decay: float = 0.02) -> None:
        import torch

        self._generator = torch.Generator().manual_seed(seed)
        # Layers draw from the global generator: it is put back, so that nobody else's draws depend on ours.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = _layers(widths, dropout)
        self._average = copy.deepcopy(self._net).eval()
        self._optimizer = torch.optim.AdamW(self._net.parameters(), weight_decay=decay)
        self._seed, self._steps = seed, 0

    def epoch(self, rows: Rows, target: Array, weight: Array, *, rate: float, logistic: bool = False) -> float:
        """One pass over (n, in) rows.

        Args:
            rows: inputs.
            target: (n, out) values, or chances when `logistic`.
            weight: (n, out), 0 where the target is unknown.
            rate: learning rate.
            logistic: fit logits by cross-entropy in place of values by squared error.

        Returns:
            The mean loss.
        """
        import torch

        for group in self._optimizer.param_groups:
            group["lr"] = rate
        x, y, w = (torch.as_tensor(np.asarray(each, dtype=np.float32)) for each in (rows, target, weight))
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed + self._steps)
            order = torch.randperm(len(x), generator=self._generator)
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                total += self._step(x[batch], y[batch], w[batch], logistic) * len(batch)
        return total / max(len(x), 1)

    @property
    def network(self) -> Network:
        """The averaged weights as arrays."""
        state = self._average.state_dict()
        weights = [value.numpy().T.copy() for name, value in state.items() if name.endswith("weight")]
        biases = [value.numpy().copy() for name, value in state.items() if name.endswith("bias")]
        return Network(tuple(weights), tuple(biases))

    def _step(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, logistic: bool) -> float:
        import torch

        self._net.train()
        self._optimizer.zero_grad()
        out = self._net(x)
        each = torch.nn.functional.binary_cross_entropy_with_logits(out, y, reduction="none") if logistic else (out - y) ** 2
        loss = (w * each).sum() / w.sum().clamp(min=1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._steps += 1
        self._follow(min(AVERAGING, (1 + self._steps) / (10 + self._steps)))
        return float(loss.detach())

    def _follow(self, keep: float) -> None:
        import torch

        with torch.no_grad():
            for average, now in zip(self._average.parameters(), self._net.parameters(), strict=True):
                average.mul_(keep).add_(now, alpha=1 - keep)


def _layers(widths: Sequence[int], dropout: float) -> torch.nn.Sequential:
    import torch

    layers: list[torch.nn.Module] = []
    for size, next_size in itertools.pairwise(widths[:-1]):
        layers += [torch.nn.Linear(size, next_size), torch.nn.ReLU(), torch.nn.Dropout(dropout)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-2], widths[-1]))

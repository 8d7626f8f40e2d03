"""Small ReLU networks fitted with torch and handed over as plain arrays.

The weights handed over are a running average over the last steps, which settles what single steps leave jumpy.
Source: Polyak and Juditsky 1992 (averaging).
"""

from __future__ import annotations

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
    """One network while it is fitted; calls to `epoch` may bring new rows and a new learning rate.

    Everything random comes from a generator of its own, so that fits in other threads change nothing.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        seed: int,
        dropout: float = 0.05,
        input_dropout: float = 0.0,
        decay: float = 0.02,
        start: Array | None = None,
    ) -> None:
        """Draw the first weights.

        Args:
            widths: of the input, the hidden layers and the output.
            seed: of the weights, the order of rows and the dropout.
            dropout, input_dropout: share of hidden and of input values left out at random while fitting.
            decay: weight decay.
            start: (out,) first biases of the output.
        """
        import torch

        self._generator = torch.Generator().manual_seed(seed)
        self._weights = [self._uniform((size, next_size), size) for size, next_size in itertools.pairwise(widths)]
        self._biases = [self._uniform((next_size,), size) for size, next_size in itertools.pairwise(widths)]
        if start is not None:
            self._biases[-1] = torch.tensor(start, dtype=torch.float32, requires_grad=True)
        self._dropout, self._input_dropout = dropout, input_dropout
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._optimizer = torch.optim.AdamW(self._parameters, weight_decay=decay)
        self._steps = 0

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
        order = torch.randperm(len(x), generator=self._generator)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            total += self._step(x[batch], y[batch], w[batch], logistic) * len(batch)
        return total / max(len(x), 1)

    @property
    def network(self) -> Network:
        """The averaged weights as arrays."""
        arrays = [average.numpy().copy() for average in self._average]
        return Network(tuple(arrays[: len(self._weights)]), tuple(arrays[len(self._weights) :]))

    @property
    def _parameters(self) -> list[torch.Tensor]:
        return [*self._weights, *self._biases]

    def _uniform(self, shape: tuple[int, ...], size: int) -> torch.Tensor:
        import torch

        return torch.empty(shape).uniform_(-(size**-0.5), size**-0.5, generator=self._generator).requires_grad_()

    def _step(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, logistic: bool) -> float:
        import torch

        self._optimizer.zero_grad()
        out = self._forward(x)
        each = torch.nn.functional.binary_cross_entropy_with_logits(out, y, reduction="none") if logistic else (out - y) ** 2
        loss = (w * each).sum() / w.sum().clamp(min=1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._steps += 1
        self._follow(min(AVERAGING, (1 + self._steps) / (10 + self._steps)))
        return float(loss.detach())

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._thinned(x, self._input_dropout)
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = self._thinned((x @ weight + bias).relu(), self._dropout)
        return x @ self._weights[-1] + self._biases[-1]

    def _thinned(self, x: torch.Tensor, share: float) -> torch.Tensor:
        """Values left out at random, the others scaled up for it (Srivastava et al. 2014)."""
        import torch

        if not share:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - share, generator=self._generator)
        return x * kept / (1 - share)

    def _follow(self, keep: float) -> None:
        import torch

        with torch.no_grad():
            for average, now in zip(self._average, self._parameters, strict=True):
                average.mul_(keep).add_(now, alpha=1 - keep)


def averaged(networks: Sequence[Network]) -> Network:
    """One network that gives the mean of several with as many layers each: side by side, joined at the output."""
    layers = list(zip(*(network.weights for network in networks), strict=True))
    offsets = list(zip(*(network.biases for network in networks), strict=True))
    share = np.float32(1 / len(networks))
    if len(layers) == 1:
        return Network((np.sum(layers[0], axis=0) * share,), (np.mean(offsets[0], axis=0),))
    middle = [_block_diagonal(blocks) for blocks in layers[1:-1]]
    weights = [np.concatenate(layers[0], axis=1), *middle, np.concatenate(layers[-1], axis=0) * share]
    return Network(tuple(weights), (*(np.concatenate(each) for each in offsets[:-1]), np.mean(offsets[-1], axis=0)))


def _block_diagonal(blocks: Sequence[Rows]) -> Rows:
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0), dtype=np.float32)
    row = column = 0
    for block in blocks:
        whole[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return whole

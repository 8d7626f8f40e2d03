"""Published stop rules on replayed runs: where each would stop, at every setting worth plotting."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.policies import tails
from rheostat.training.outcomes import Array
from rheostat.training.trajectories import Trajectories

Stops = npt.NDArray[np.bool_]
CONFIDENCES = (0.55, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.995, 0.999)
ALPHAS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a rule gave on each run: samples drawn and reward, both (r,)."""

    samples: Array
    reward: Array


def stopped(runs: Trajectories, stops: Stops) -> Stopped:
    """Stop every run at the first column of (r, K) `stops` that says so, at the latest after K samples."""
    last = stops.copy()
    last[:, -1] = True
    step = last.argmax(axis=1)
    return Stopped(step + 1.0, runs.value[np.arange(len(runs)), step])


def fixed(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """n = k."""
    for k in range(1, runs.depth + 1):
        yield f"fixed({k})", np.broadcast_to(np.arange(1, runs.depth + 1) >= k, runs.value.shape)


def lead(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """v1 - v2 >= m."""
    for m in range(1, min(runs.depth, 10) + 1):
        yield f"lead({m})", runs.first - runs.second >= m


def beta(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """Adaptive-Consistency with the beta posterior (Aggarwal et al. 2023)."""
    chance = _by_key(lambda key: tails.p_ahead(*key), np.stack([runs.first, runs.second], axis=2))
    for c in CONFIDENCES:
        yield f"beta({c})", chance >= c


def dirichlet(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """Adaptive-Consistency with the Dirichlet posterior; an answer not seen yet is among the rivals."""
    chance = _by_key(_p_mode, runs.ranked)
    for c in CONFIDENCES:
        yield f"dirichlet({c})", chance >= c


def esc(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """A unanimous window of w votes (Li et al. 2024)."""
    for w in range(2, min(runs.depth, 10) + 1):
        yield f"esc({w})", runs.streak >= w


def certified(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """An anytime-valid certificate that the leader is the mode; see `policies.stopping.Certified`."""
    evidence = _by_key(lambda key: tails.e_value(*key), np.stack([runs.first_since, runs.second_since], axis=2))
    for alpha in ALPHAS:
        needed = np.array([np.inf, *(1 / tails.share_of_alpha(alpha, rank) for rank in range(1, int(runs.rank.max()) + 1))])
        yield f"certified({alpha})", evidence >= needed[runs.rank]


def curtail(runs: Trajectories) -> Iterator[tuple[str, Stops]]:
    """v1 - v2 > K - n."""
    yield "curtail", runs.first - runs.second > runs.depth - np.arange(1, runs.depth + 1)


RULES: Mapping[str, Callable[[Trajectories], Iterator[tuple[str, Stops]]]] = {
    "fixed": fixed,
    "lead": lead,
    "beta": beta,
    "dirichlet": dirichlet,
    "esc": esc,
    "certified": certified,
    "curtail": curtail,
}


@functools.cache
def _p_mode(votes: tuple[int, ...]) -> float:
    seen = [v for v in votes if v > 0]
    return tails.p_mode(seen[0], [*seen[1:], 0]) if seen else 0.0


def _by_key(function: Callable[[tuple[int, ...]], float], keys: npt.NDArray[np.int16]) -> Array:
    """A function of small tuples of whole numbers, evaluated once for each different one of (r, K, m)."""
    r, depth, m = keys.shape
    different, where = np.unique(keys.reshape(-1, m), axis=0, return_inverse=True)
    values = np.array([function(tuple(map(int, key))) for key in different])
    return np.asarray(values[where.reshape(-1)].reshape(r, depth))

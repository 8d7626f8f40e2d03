"""Base samplers: model x prompt x temperature, K independent samples of each query. Knows no backend and no store.

Sample i of a query is drawn with seed `base + i`, where the base is a hash of the query and the sampler: so any part
of a log can be drawn again on its own, and no two queries share their random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from rheostat.data.errors import ConfigError
from rheostat.data.outcomes import SampleKey
from rheostat.data.schema import Query
from rheostat.policies.base import GenerateRequest
from rheostat.policies.prompts import Messages, answer_only, step_by_step

PROMPTS: dict[str, Callable[[Messages], Messages]] = {"direct": answer_only, "cot": step_by_step}
SAMPLE_CAPS = {"direct": 32, "cot": 192}
_SPELLING = "write prompt:temperature:samples or prompt:temperature:samples:max_tokens, as in cot:0.8:32"


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """K samples of a model under one prompt at one temperature, each of at most `max_tokens` generated tokens."""

    model: str
    strategy: str
    temperature: float
    k: int
    max_tokens: int

    @classmethod
    def parse(cls, spelling: str, model: str) -> Sampler:
        """The sampler that `cot:0.8:32` or `cot:0.8:32:256` names.

        Raises:
            ConfigError: the text is not of that form, or a number is out of range.
        """
        strategy, *numbers = spelling.split(":")
        if strategy not in PROMPTS:
            raise ConfigError(f"sampler {spelling!r} has an unknown prompt {strategy!r}: known are {', '.join(PROMPTS)}")
        try:
            temperature, k, *cap = [float(numbers[0]), *map(int, numbers[1:])]
        except (ValueError, IndexError):
            raise ConfigError(f"{spelling!r} is no sampler: {_SPELLING}") from None
        return cls._checked(spelling, model, strategy, temperature, int(k), [int(c) for c in cap] or [SAMPLE_CAPS[strategy]])

    @classmethod
    def _checked(cls, spelling: str, model: str, strategy: str, temperature: float, k: int, caps: list[int]) -> Sampler:
        if len(caps) != 1 or k < 1 or caps[0] < 1 or not 0 <= temperature <= 2:
            raise ConfigError(f"sampler {spelling!r} is out of range (temperature 0 to 2, samples and max_tokens from 1): {_SPELLING}")
        if temperature == 0 and k > 1:
            raise ConfigError(f"sampler {spelling!r} draws {k} samples at temperature 0, which are all the same: ask for 1")
        return cls(model=model, strategy=strategy, temperature=temperature, k=k, max_tokens=caps[0])

    def base_seed(self, query: Query, seed: int) -> int:
        """The seed of sample 0 of this query, in [0, 2^48)."""
        key = f"{seed}\n{query.dataset}\n{query.query_id}\n{self.model}\n{self.strategy}\n{self.temperature}"
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")

    def request(self, query: Query, start: int, n: int, seed: int) -> GenerateRequest:
        """The call for samples `start` to `start + n - 1` of this query."""
        return GenerateRequest(
            model=self.model,
            messages=PROMPTS[self.strategy](query.messages),
            max_tokens=self.max_tokens,
            n=n,
            temperature=self.temperature,
            seed=self.base_seed(query, seed) + start,
            logprobs=True,
        )


class Job(msgspec.Struct, frozen=True):
    """One call to make: `n` samples from index `start` on, tried `tries` times before."""

    query: Query
    sampler: Sampler
    start: int
    n: int
    tries: int = 0


def sample_key(query: Query, sampler: Sampler, index: int) -> SampleKey:
    """The key of sample `index` of a query."""
    return SampleKey(query.dataset, query.query_id, sampler.model, sampler.strategy, sampler.temperature, index)


def jobs(tasks: Iterable[Query], samplers: Iterable[Sampler], have: set[SampleKey], *, chunk: int) -> Iterator[Job]:
    """The calls that are still to be made, at most `chunk` samples each; runs of missing samples, where a log has gaps."""
    samplers = list(samplers)
    for query in tasks:
        for sampler in samplers:
            missing = [i for i in range(sampler.k) if sample_key(query, sampler, i) not in have]
            for start, n in _runs(missing, chunk):
                yield Job(query, sampler, start, n)


def _runs(indices: list[int], longest: int) -> Iterator[tuple[int, int]]:
    """Consecutive ascending indices as (first, length), none longer than `longest`."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1 or end - start == longest:
            yield indices[start], end - start
            start = end

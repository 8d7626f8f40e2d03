"""What a collection asks for: a task set by samplers, and which samples of a store are of it.

A task is its text, its kind and its reference. One that has another of these than the samples stored under its id is another
task: its samples stand under an id of their own, so that neither's answers are graded or told as the other's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rheostat.data.schema import Query, Sample
from rheostat.training.samplers import Sampler

Content = tuple[str, str, str]


class Graded(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of a model: how many, how many of them could be graded, and how many of those were right."""

    samples: int = 0
    graded: int = 0
    right: float = 0.0

    def plus(self, sample: Sample) -> Graded:
        """With one more sample."""
        return Graded(
            samples=self.samples + 1, graded=self.graded + (sample.correct is not None), right=self.right + (sample.correct or 0.0)
        )


class Asked:
    """The samples that a task set and samplers ask for.

    Args:
        tasks: queries with references, each with an id of its own.
        samplers: how each is asked.
        stored: the samples there are.

    Attributes:
        tasks: the queries as they are stored.
        changed: how many of them are not what the store has under their id.
    """

    def __init__(self, tasks: Sequence[Query], samplers: Iterable[Sampler], stored: Iterable[Sample]) -> None:
        self.tasks = told_apart(tasks, stored)
        self.changed = sum(task is not given for task, given in zip(self.tasks, tasks, strict=True))
        self._given = {(task.dataset, task.query_id): given for task, given in zip(self.tasks, tasks, strict=True)}
        self._depth: dict[tuple[str, str, float], int] = defaultdict(int)
        for sampler in samplers:
            asked = sampler.model, sampler.strategy, sampler.temperature
            self._depth[asked] = max(self._depth[asked], sampler.k)

    def of(self, stored: Iterable[Sample]) -> Iterator[Sample]:
        """Those of some samples that are asked for, under the ids that the tasks were given."""
        for sample in stored:
            given = self._given.get((sample.dataset, sample.query_id))
            depth = self._depth.get((sample.model, sample.strategy, sample.temperature), 0)
            if given is None or sample.sample_index >= depth or _content_of(sample) != content(given):
                continue
            yield sample if sample.query_id == given.query_id else msgspec.structs.replace(sample, query_id=given.query_id)

    def graded(self, stored: Iterable[Sample]) -> dict[str, Graded]:
        """How right each model is on what was asked."""
        found: dict[str, Graded] = {}
        for sample in self.of(stored):
            found[sample.model] = found.get(sample.model, Graded()).plus(sample)
        return found


def told_apart(tasks: Sequence[Query], stored: Iterable[Sample]) -> list[Query]:
    """The tasks, under another id where the samples stored under theirs are of another question, kind or reference."""
    wanted = {(task.dataset, task.query_id) for task in tasks}
    found: dict[tuple[str, str], set[Content]] = defaultdict(set)
    for sample in stored:
        if (sample.dataset, sample.query_id) in wanted:
            found[sample.dataset, sample.query_id].add(_content_of(sample))
    return [_apart(task) if found[task.dataset, task.query_id] - {content(task)} else task for task in tasks]


def content(task: Query) -> Content:
    """What makes a task this one, whatever its id: the question, its kind, the reference."""
    return task.text, task.kind or "text", task.reference or ""


def _content_of(sample: Sample) -> Content:
    return sample.query_text, sample.kind, sample.gold


def _apart(task: Query) -> Query:
    digest = hashlib.blake2b("\n".join(content(task)).encode(), digest_size=8).hexdigest()
    return msgspec.structs.replace(task, query_id=f"{task.query_id}~{digest}")

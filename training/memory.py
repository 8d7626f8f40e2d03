"""Solved questions from a task set or a log, for the task memory of few-shot prompts.

Built-in problems come with their worked solution, from the side that models are trained on and never tested on; other
task sets and logs with their reference answer only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from rheostat.data.errors import DatasetError
from rheostat.data.problems import FAMILIES, problems
from rheostat.data.samples import read_samples
from rheostat.data.tasks import load_tasks
from rheostat.policies.base import Example

DRAWS_PER_EXAMPLE = 100
STATED = "The answer is {}."


def solved_examples(source: str, *, n: int, seed: int = 0) -> list[Example]:
    """At most `n` solved questions, each once.

    Args:
        source: a task set as `load_tasks` reads it, or a Parquet log.
        n: how many.
        seed: which ones.

    Raises:
        DatasetError: the source names nothing, or has no question with an answer.
    """
    unique: dict[str, Example] = {}
    for example in _examples(source, n, seed):
        unique.setdefault(example.question.strip(), example)
        if len(unique) == n:
            break
    if not unique:
        raise DatasetError(f"{source} has no question with an answer: name a task set or a log with reference answers")
    return list(unique.values())


def _examples(source: str, n: int, seed: int) -> Iterator[Example]:
    if source.partition(":")[0] == "pocket":
        return itertools.islice(_worked(source, seed), n * DRAWS_PER_EXAMPLE)
    if source.endswith(".parquet"):
        return _logged(Path(source))
    tasks = load_tasks(source, n=n, seed=seed)
    return (Example(task.text, STATED.format(task.reference)) for task in tasks if task.reference)


def _worked(source: str, seed: int) -> Iterator[Example]:
    """Worked problems of the families named, or of all: more than are wanted, since small families repeat themselves."""
    wanted = {name.strip() for name in source.partition(":")[2].split(",") if name.strip()} or set(FAMILIES)
    if unknown := wanted - set(FAMILIES):
        raise DatasetError(f"unknown family {', '.join(sorted(unknown))}: use some of {', '.join(FAMILIES)}")
    drawn = (problem for problem in problems("train", seed) if problem.family in wanted)
    return (Example(problem.question, problem.work().text) for problem in drawn)


def _logged(path: Path) -> Iterator[Example]:
    rows = read_samples(path).select("query_text", "gold").unique(maintain_order=True)
    return (Example(question, STATED.format(gold)) for question, gold in rows.iter_rows() if question and gold)

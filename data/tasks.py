"""Task sets: queries with reference answers, by a short spelling.

`pocket` is the held-out side of the built-in problems (`pocket:addition,story` some of its families),
`reasoning_gym:NAME` a procedural data set of that package, and anything else the path of a JSON-lines file with
`id, question, answer` (and, if wanted, `kind` and `level`) in every line. Knows nothing of models or logs.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import itertools
import random
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any, get_args

import msgspec

from rheostat.data.answers import infer_kind, kind_of
from rheostat.data.errors import DatasetError
from rheostat.data.problems import FAMILIES, LEVELS, Problem
from rheostat.data.schema import AnswerKind, Query
from rheostat.data.verifiers import GYM_PREFIX, GymReference, gym_dataset

DEFAULT_TASKS = 640
EXHAUSTED_AFTER = 1_000  # draws without a new question after which a small space counts as used up


def load_tasks(spec: str, *, n: int | None = None, seed: int = 0) -> list[Query]:
    """Queries with a reference answer, in the same order for the same spec, n and seed.

    Args:
        spec: `pocket`, `pocket:FAMILY,...`, `reasoning_gym:NAME`, or a path ending in .jsonl or .jsonl.gz.
        n: how many; fewer come back where there are no more. None means 640 of a procedural set, all of a file.
        seed: which ones.

    Raises:
        DatasetError: the spec names nothing, or a row of the file does not fit.
    """
    if n is not None and n < 1:
        raise DatasetError(f"n is {n}: ask for at least one task")
    source, _, names = spec.partition(":")
    if source == "pocket":
        return _pocket(_families(names), n or DEFAULT_TASKS, seed)
    if source == "reasoning_gym":
        return _gym(names, n or DEFAULT_TASKS, seed)
    rows = _read_file(Path(spec))
    return rows if n is None or n >= len(rows) else random.Random(seed).sample(rows, n)


def text_id(prefix: str, text: str) -> str:
    """An id that is the same wherever and whenever the same text is met."""
    return f"{prefix}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _families(names: str) -> list[str]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in FAMILIES:
            raise DatasetError(f"unknown family {name!r}: use some of {', '.join(FAMILIES)}")
    return wanted or list(FAMILIES)


def _pocket(families: list[str], n: int, seed: int) -> list[Query]:
    """Round-robin over family x level, so that every prefix is even and used-up cells are filled from the others."""
    cells = [(family, level) for level in LEVELS for family in families]
    random.Random(seed).shuffle(cells)
    seen: set[str] = set()
    streams: list[Iterable[Problem]] = [_heldout(family, level, seed, seen) for family, level in cells]
    return [_task(problem) for problem in itertools.islice(_round_robin(streams), n)]


def _heldout(family: str, level: int, seed: int, seen: set[str]) -> Iterator[Problem]:
    """Held-out problems with questions not in `seen`, until none turns up any more."""
    rng = random.Random(f"{family}-{level}-{seed}")
    misses = 0
    while misses < EXHAUSTED_AFTER:
        problem = FAMILIES[family](rng, level)
        misses += 1
        if problem.split == "heldout" and problem.question not in seen:
            seen.add(problem.question)
            misses = 0
            yield problem


def _round_robin(streams: list[Iterable[Problem]]) -> Iterator[Problem]:
    """One of each in turn, until all have ended."""
    live = [iter(stream) for stream in streams]
    while live:
        for stream in list(live):
            try:
                yield next(stream)
            except StopIteration:
                live.remove(stream)


def _task(problem: Problem) -> Query:
    return Query.of_text(
        problem.question,
        query_id=text_id("pocket", problem.question),
        kind=problem.kind,
        reference=problem.answer,
        dataset=f"pocket/{problem.family}",
        level=problem.level,
    )


def _gym(name: str, n: int, seed: int) -> list[Query]:
    known = _gym_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:5]
        raise DatasetError(f"reasoning_gym has no data set {name!r}: did you mean {', '.join(close)}?")
    dataset = gym_dataset(name, seed, n)
    return [_gym_task(name, seed, n, index, dataset[index]) for index in range(n)]


def _gym_names() -> list[str]:
    try:
        from reasoning_gym.factory import DATASETS
    except ModuleNotFoundError as error:
        raise DatasetError("reasoning_gym is not installed: pip install 'rheostat[train]'") from error
    return sorted(DATASETS)


def _gym_task(name: str, seed: int, size: int, index: int, entry: dict[str, Any]) -> Query:
    question, answer = str(entry["question"]), entry["answer"]
    return Query.of_text(
        question,
        query_id=f"{name}-{seed}-{size}-{index}",
        kind=infer_kind(question) if answer is None else kind_of(str(answer), question),
        reference=str(GymReference(gym=name, seed=seed, size=size, index=index, answer=answer)),
        dataset=f"{GYM_PREFIX}{name}",
    )


def _read_file(path: Path) -> list[Query]:
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DatasetError(f"{str(path)!r} names no task set: use pocket, pocket:FAMILY,..., reasoning_gym:NAME or a .jsonl(.gz) file")
    tasks: dict[str, Query] = {}
    dataset = path.name.removesuffix(".gz").removesuffix(".jsonl")
    for line_number, line in _lines(path):
        task = _row(line, f"{path.name} line {line_number}", dataset)
        if task.query_id in tasks:
            raise DatasetError(f"{path.name} line {line_number}: id {task.query_id!r} was there before: make ids unique")
        tasks[task.query_id] = task
    if not tasks:
        raise DatasetError(f"{path.name} has no rows: write one JSON object with id, question and answer in every line")
    return list(tasks.values())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                if line.strip():
                    yield line_number, line.removeprefix(BOM_UTF8)
    except (OSError, EOFError) as error:
        raise DatasetError(f"cannot read the task set {path.name}: {error}: give the path of a .jsonl or .jsonl.gz file") from error


def _row(line: bytes, where: str, dataset: str) -> Query:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{where}: not JSON ({error}): write one object a line") from error
    if not isinstance(row, dict):
        raise DatasetError(f"{where}: a {type(row).__name__}, not an object: write id, question and answer")
    question, answer = _with_options(_text(row, "question", where), row), _text(row, "answer", where)
    kind, query_id = _kind(row, answer, question, where), _text(row, "id", where)
    return Query.of_text(question, query_id=query_id, kind=kind, reference=answer, dataset=dataset, level=_level(row))


def _with_options(question: str, row: dict[str, Any]) -> str:
    """The question with its lettered options, where the row holds them apart (`options` or `choices`)."""
    options = row.get("options") or row.get("choices")
    if not isinstance(options, list) or infer_kind(question) == "choice":
        return question
    lettered = zip(ascii_uppercase, map(str, options), strict=False)
    return "\n".join([question, *(option if option.startswith("(") else f"({letter}) {option}" for letter, option in lettered)])


def _text(row: dict[str, Any], field: str, where: str) -> str:
    """A field as text: numbers as they are spelled, true and false as yes and no."""
    value = row.get(field)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    problem = "missing" if field not in row else "empty" if isinstance(value, str) else f"a {type(value).__name__}"
    raise DatasetError(f"{where}: {field} is {problem}: give a text or a number")


def _kind(row: dict[str, Any], answer: str, question: str, where: str) -> AnswerKind:
    kind = row.get("kind")
    if kind is None:
        return kind_of(answer, question)
    for known in get_args(AnswerKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise DatasetError(f"{where}: kind is {kind!r}: use one of {', '.join(get_args(AnswerKind))}, or leave it out")


def _level(row: dict[str, Any]) -> int:
    """Other people's level columns hold all sorts of things; only whole numbers are levels here."""
    level = row.get("level")
    return level if isinstance(level, int) and not isinstance(level, bool) else 0

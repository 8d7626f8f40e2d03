"""Reading foreign rows: a value is there and of its type, or the error says where it is not."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec

from rheostat.data.answers import extract, infer_kind
from rheostat.data.errors import DatasetError
from rheostat.data.parquet import read_parquet
from rheostat.data.schema import Sample

CHARACTERS_PER_TOKEN = 4
ESTIMATED = "estimated: characters / 4"
LOGGED = "logged"
SEPARATED, SEPARATORS = (".csv", ".tsv"), ",;\t"
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a format leaves open; None takes what the file says.

    Attributes:
        model: whose answers these are.
        score: which score is the reward: a metric of the harness, a scorer of Inspect, an assessment of a trace, a column of rows.
        filter: which filter of the harness, such as `strict-match`.
        strategy: how the models were asked; `direct` and `cot` are those that a training can replay.
    """

    model: str | None = None
    score: str | None = None
    filter: str | None = None
    strategy: str = "direct"


AS_WRITTEN = Options()


class Row(NamedTuple):
    """One row of a foreign file; `number` counts from 1, as editors do."""

    path: Path
    number: int
    values: Mapping[str, Any]

    def get(self, column: str, kind: type | tuple[type, ...] = str) -> Any:
        """The value of a column, or of a nested one named with dots.

        Raises:
            DatasetError: it is missing or of another type.
        """
        value: Any = self.values
        for part in column.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise self.error(column, "is missing")
            value = value[part]
        if not isinstance(value, kind):
            names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
            raise self.error(column, f"is {value!r:.60}, not {names}")
        return value

    def share(self, column: str) -> float | None:
        """A reward: a number or its text in [0, 1], or true and false however they are spelled; None where it was left blank.

        Raises:
            DatasetError: it is something else.
        """
        value = self.get(column, object)
        text = "" if value is None else str(value).strip().lower()
        if not text:
            return None
        if text in (*_TRUE, *_FALSE):
            return float(text in _TRUE)
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise self.error(column, f"is {value!r:.60}, not a score in [0, 1]")
        return number

    @overload
    def amount(self, column: str) -> float | None: ...

    @overload
    def amount(self, column: str, kind: type[int]) -> int | None: ...

    def amount(self, column: str, kind: type[int] | type[float] = float) -> float | None:
        """A number that is not negative, or its text; None where there is no such column, or it was left blank.

        Raises:
            DatasetError: it is something else, or has a fraction where whole ones are counted.
        """
        value = self.values.get(column)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not 0 <= number < math.inf or (kind is int and number % 1):
            raise self.error(column, f"is {value!r:.60}, not a {'whole ' if kind is int else ''}number from 0 up")
        return kind(number)

    def error(self, column: str, reason: str) -> DatasetError:
        """What to raise about a column of this row."""
        return DatasetError(f"{self.path} row {self.number}: {column} {reason}: correct the row, or leave it out")


def json_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSON-lines file, or of a JSON file that is a list.

    Raises:
        DatasetError: the file cannot be read, or a line is no JSON object.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        rows = list(enumerate(_parsed(path, 1, text), start=1))
    else:
        rows = [(number, _parsed(path, number, line)) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, values in rows:
        if not isinstance(values, dict):
            raise DatasetError(f"{path} row {number}: the row is no JSON object: give one object a line")
        yield Row(path, number, values)


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV file with a header; row 1 is the first after it. Semicolons and tabs separate as well as commas.

    Raises:
        DatasetError: the file cannot be read, a column comes twice, or a row has too many or too few columns.
    """
    text = _text(path)
    header = text.partition("\n")[0]
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a prompt may be a book
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(SEPARATORS, key=header.count), strict=True)
    try:
        names = reader.fieldnames or []
        if twice := [name for name in names if names.count(name) > 1]:
            raise DatasetError(f"{path}: the column {twice[0]!r} comes twice: which one counts? Rename or drop the other")
        for number, values in enumerate(reader, start=1):
            if None in values or None in values.values():
                raise DatasetError(f"{path} row {number}: the row has another number of columns than the header: quote its commas")
            yield Row(path, number, values)
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num}: {error}: write it as CSV with a header") from error


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV or Parquet file, or of JSON lines, by the ending of its name.

    Raises:
        DatasetError: the file cannot be read.
    """
    if path.suffix in SEPARATED:
        yield from csv_rows(path)
    elif path.suffix == ".parquet":
        for number, values in enumerate(read_parquet(path).iter_rows(named=True), start=1):
            yield Row(path, number, values)
    else:
        yield from json_lines(path)


def json_object(path: Path, text: str, number: int = 1) -> Row:
    """One JSON object as a row.

    Raises:
        DatasetError: it is none.
    """
    values = _parsed(path, number, text)
    if not isinstance(values, dict):
        raise DatasetError(f"{path} row {number}: the file is no JSON object")
    return Row(path, number, values)


def first_value(path: Path) -> Any:
    """The first JSON value of a file, or the first entry where that is a list.

    Raises:
        DatasetError: the file cannot be read, or does not begin with JSON.
    """
    value = _parsed(path, 1, _text(path).lstrip(), _first_of)
    return next(iter(value), None) if isinstance(value, list) else value


def answer_in(reply: str, question: str) -> str | None:
    """What a reply finally answers, in one spelling for equal answers; None where nothing can be parsed."""
    return extract(reply, infer_kind(question)) if reply else None


def sample_of_texts(row: Row, *, prompt: str, response: str, model: str, **fields: Any) -> Sample:
    """The sample of a table that keeps texts and no counts: tokens are estimated, time and temperature unknown.

    Args:
        row: whose column `model` says whether the response was right.
        prompt, response: the texts; a response that was not kept is empty.
        model: who answered.
        fields: what else is known of the sample, by the names of `Sample`.

    Raises:
        DatasetError: the model's column is missing or no score.
    """
    return Sample(
        query_text=prompt,
        model=model,
        sample_index=0,
        temperature=0.0,
        answer=answer_in(response, prompt),
        kind=infer_kind(prompt),
        gold="",
        correct=row.share(model),
        prompt_tokens=tokens_of(prompt),
        completion_tokens=max(tokens_of(response), 1),
        latency_s=0.0,
        tokens_source=ESTIMATED,
        **fields,
    )


def tokens_of(text: str) -> int:
    """A guess at the tokens of a text, for logs that count none."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before the first column
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path} ({error}): give a text file in UTF-8") from error


def _first_of(text: str) -> Any:
    return json.JSONDecoder().raw_decode(text)[0]


def _parsed(path: Path, number: int, text: str, parse: Callable[[str], Any] = json.loads) -> Any:
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} row {number}: not JSON ({error}): is the file complete?") from error

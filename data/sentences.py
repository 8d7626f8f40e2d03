"""Where a sentence ends, and which lines are rows of a grid or items of a list: how much of a text is one answer.

Knows nothing of kinds or markers. Every pattern is linear.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
# Words that a sentence begins with and a name hardly does: they tell "vitamin C. It is" from "John F. Kennedy".
_OPENER = (
    r"(?:A|Also|An|And|Answer|As|At|Because|because|But|By|Explanation|First|For|From|He|Hence|Here|However|I|If|In|It|Its|Let|My|Note|On"
    r"|Our|She|Since|So|That|The|Then|There|Therefore|These|They|This|Those|Thus|To|We|What|When|Which|With|You|Your)\b(?!\.)"
)
_ABBREVIATED = re.compile(
    r"(?<![\w'’])([A-Z](?=\.\s+[A-Z])|[SsMmFf]t|[DdMm]r|[Mm]rs|Ms|Prof|Rev|Gen|Col|Lt|Sgt|Capt|Gov|Sen|Jr|Sr|Inc|Ltd|Co|[Vv]s|etc|approx"
    rf"|[Nn]o(?=\.\s+[0-9]))\.(?=[^\S\n]++(?!{_OPENER}))"
)
_GAP = re.compile(r"[\s,|]+")
_CELL = re.compile(r"[^\s\\]|[-+]?[0-9]+(?:\.[0-9]+)?")
_STOPPED = re.compile(r"(?<=\w)[.;]\s*$")
_ITEM = re.compile(r"[^\S\n]*(?:[-*•]|[0-9]{1,3}[.)])[^\S\n]+(?=\S)")
_ANNOUNCED = re.compile(r"[*_:$ \t]*\n\s*")  # nothing more in the line that says that the answer comes
_FENCED = re.compile(r"[*_: \t\n]*```[^\n`]*\n(.*?)```", re.DOTALL)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
# How a line of another kind than an answer's begins: with a label, as a sentence, a heading, a tag or a remark.
_BEGINNING = re.compile(rf"[*_]*(?:\w{{1,20}}(?: \w{{1,20}}){{0,2}}[*_]*(?::| -)[*_]*\s|{_OPENER}\s|[#<>(]|--)")
_WORD = re.compile(r"\w")
_SENTENCE_MARKS = (".", "!", "?", ":", ",")
LINE_CHARS = 80


def first_sentence(text: str) -> str:
    """As it is spelled, without its full stop; a line's end ends it too, an initial or an abbreviation does not."""
    return text[: _end(_undotted(text))].strip()


def undotted_sentence(text: str) -> str:
    """The first sentence without the full stops of initials and abbreviations: it is its own first sentence."""
    undotted = _undotted(text)
    return " ".join(undotted[: _end(undotted)].rstrip(" .!?").split())


def grid_rows(text: str) -> list[list[str]]:
    """The cells of the lines that a text begins with as far as they are rows: each of as many single characters or numbers.

    None of a text that is one line. Blanks, commas and bars stand between cells.
    """
    rows: list[list[str]] = []
    for line in text.split("\n") if "\n" in text else ():
        cells = [cell for cell in _GAP.split(_STOPPED.sub("", line)) if cell]
        if len(cells) < 2 or (rows and len(cells) != len(rows[0])) or not all(map(_CELL.fullmatch, cells)):
            break
        rows.append(cells)
    return rows


def list_items(text: str) -> list[str]:
    """The items of the list that a text begins with, without their bullets and numbers; blank lines may stand between them.

    None of a text that begins with fewer than two.
    """
    items: list[str] = []
    for line in text.split("\n") if "\n" in text else ():
        mark = _ITEM.match(line)
        if mark:
            items.append(line[mark.end() :])
        elif line.strip():
            break
    return items if len(items) > 1 else []


def announced_lines(text: str) -> list[str]:
    """The lines of an answer that stands below what announced it: fenced, or several short lines of which none is a sentence.

    None where it begins in that line, or where it is not clear that all that follows belongs to it: so with a line that has no
    word, as a rule or a mark of mathematics, and with one that begins as another kind of line does, unless the first does too.
    """
    fenced, announced = _FENCED.match(text), _ANNOUNCED.match(text)
    if not (fenced or announced):
        return []
    block = fenced[1] if fenced else _PARAGRAPH.split(text[announced.end() :] if announced else "", maxsplit=1)[0]
    lines = [line.strip() for line in block.split("\n") if line.strip()]
    return lines if fenced or (len(lines) > 1 and _belong_together(lines)) else []


def _belong_together(lines: list[str]) -> bool:
    if any(len(line) > LINE_CHARS or line.endswith(_SENTENCE_MARKS) or not _WORD.search(line) for line in lines):
        return False
    return bool(_BEGINNING.match(lines[0])) or not any(map(_BEGINNING.match, lines))


def _undotted(text: str) -> str:
    """A blank for each full stop that belongs to an initial or an abbreviation; everything stays in its place."""
    return _ABBREVIATED.sub(r"\1 ", text) if "." in text[:-1] else text


def _end(undotted: str) -> int:
    end = _SENTENCE_END.search(undotted)
    return end.start() if end else len(undotted)

"""Answers: what kind a question wants, what a reply finally says, and whether two answers are the same.

Knows nothing of models or references. Every search runs over the last `TAIL_CHARS` characters only and every pattern
is linear, so that a hostile reply of a megabyte costs no more than an honest one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple
from unicodedata import normalize

from rheostat.data.schema import AnswerKind
from rheostat.data.sentences import announced_lines, first_sentence, grid_rows, list_items, undotted_sentence

TAIL_CHARS = 4_000
MAX_NESTED = 4  # times that markup may come to light under markup; who nests deeper does it to keep us busy
STATED_CHARS = 300  # how far behind "the answer is" an answer may reach
STATED_TRIES = 16  # how many of the last markers are tried
DENIAL_CHARS = 40  # in front of a letter or a number, in which it may be denied
MAX_NUMBER_CHARS = 400  # longer ones are noise, and Python refuses to spell integers of more than 4,300 digits
SHORT_CHARS = 80  # a text reply no longer than this is an answer as a whole

_MARKER = re.compile(r"(?P<box>\\boxed\s?\{)|####|\banswer\s?(?:is|are|:|=)[ \t]*:?", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:(?<![\w)])[-+])?(?<![A-Za-z0-9_^])(?<!\^\{)(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?=\.[0-9]))(?:\.[0-9]+)?"
    r"(?:[eE][-+]?[0-9]{1,2}(?![0-9]))?(?:\s?/\s?[0-9]+(?![0-9/]|\.[0-9]))?"
)
# Only of an opinion a negation reaches so far: "whales do not lay eggs the statement is true" denies nothing.
_IT_IS = r"(?:that\s{1,3})?(?:it|this|that|(?:the|this|that)\s{1,3}\w{1,20})(?:\s{1,3}is|['’]s)\s{1,3}"
_NOT = (
    rf"(?:(?:\b(?:can)?not|n['’]t)\s{{1,3}}(?:be\s{{1,3}}|(?:think|believe|agree|the\s{{1,3}}case)\s{{1,3}}{_IT_IS})?"
    rf"|\b(?:never|far\s{{1,3}}from|no\s{{1,3}}longer)\s{{1,3}}|\bdoubt\s{{1,3}}{_IT_IS})"
    r"(?:(?:actually|always|entirely|necessarily|quite|really|strictly)\s{1,3})?"
)
_YES_NO = re.compile(rf"({_NOT})?\b(yes|no|true|false)\b", re.IGNORECASE)
_VERDICT_FIRST = re.compile(r"\W{0,8}(?:yes|no)\b\W{0,4}(?:[.,:;!–—-]|\n)", re.IGNORECASE)
_NONE_OF = re.compile(r"\s+(?!(?:and|as|because|but|for|since|so)\b)[a-z]")  # what makes of "no" a word for none
# What tells an option A from an article, also in the middle of a sentence.
_CHOSEN = r"is\s+(?:(?:my|the)\s+(?:only\s+|most\s+)?)?(?:answer|best|choice|correct|likely|right|true)\b"
_LONE_LETTER = re.compile(rf"\(([A-Za-z])\)|(?<![A-Za-z0-9'’])(A(?!\s+(?!{_CHOSEN})[a-z])|I(?!\s+[a-z])|[B-HJ-Z])(?![A-Za-z0-9'’])")
_DENIED = re.compile(  # in front of what is not the answer
    r"(?:\bnot|n['’]t|\brather\s{1,3}than|\binstead\s{1,3}of)\s{1,3}(?:(?:the\s{1,3})?(?:answer|choice|letter|number|option)\s{1,3})?[(*\"'“‘]{0,4}\Z",
    re.IGNORECASE,
)
_ARTICLE = r"[ \t]+(?!(?:and|as|because|but|due|for|given|is|not|or|since)\b)(?-i:[a-z])"  # what makes of "a" an article
_LEADING_LETTER = re.compile(
    r"\W{0,8}(?:option|choice|letter|answer)?\W{0,8}"
    rf"(?:([A-Za-z])(?=\W{{0,8}}\Z|[).:])|(A(?!{_ARTICLE})|[B-HJ-Z])(?![A-Za-z0-9'’]))",
    re.IGNORECASE,
)


def _improper(mixed: re.Match[str]) -> str:
    whole, numerator, denominator = map(int, mixed.groups())
    return f"{whole * denominator + numerator}/{denominator}"


_LATEX: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<![\w.,/^])([0-9]{1,18})(?:\\[,;!:]|[ \t])?\\[dt]?frac\s?\{([0-9]{1,18})\}\s?\{([0-9]{1,18})\}"), _improper),
    (re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s?([0-9])\s?([0-9])(?![0-9])"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf)\s?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(?<!\\)\\++(?:[,;!:]+|[^\S\n])|\\left|\\right|\\?\$|`"), ""),
    (re.compile(r"\\([%{}])"), r"\1"),
    (re.compile(r"\*{2,}|_{2,}"), ""),
)
_MARKUP = re.compile(r"[\\$`]|\*{2}|_{2}|\{,\}")  # what every one of those needs; most answers have none of it
_MIXED = re.compile(r"(?<![\w.,/^])([0-9]{1,9}) ([0-9]{1,4})/([0-9]{1,4})(?![0-9/]|\.[0-9])")
_POWER = re.compile(r"(?<=[0-9])\s?(?:\\times|\\cdot|×)\s?10\s?\^\s?(?:\{\s?([-+]?[0-9]{1,2})\s?\}|([-+]?[0-9]{1,2}))(?![0-9])")
_RAISED = re.compile(r"(?<![\w.,^)}])([0-9]{1,6})\s?\^\s?(?:\{\s?(-?[0-9]{1,2})\s?\}|(-?[0-9]{1,2})(?!\.?[0-9]))")
_ROOT = re.compile(r"(?<![\w.)}])(?:\\sqrt\s?\{\s?|√\s?)([0-9]{1,9})(?![0-9.])\s?\}?")
_GROUPED = re.compile(r"(?<![\w.,])[0-9]{1,3}(?:[\u00a0\u2009\u202f'’_~][0-9]{3})+(?!\w)")
_ASCII_GAP = re.compile(r"['_~]")
_NO_DIGIT = re.compile(r"\D")
_VULGAR = re.compile(r"([0-9]?)\s?([¼-¾⅐-⅞])")
_PADDED_HOUR = re.compile(r"\b0(?=[0-9]:[0-9]{2}\b)")
_QUOTES = "\"'“”‘’ *"
_LEAD_UP = re.compile(r"[.!:\n]\s")
_IN_NUMBERS = re.compile(r"[\s,]")
_PARAGRAPH = re.compile(r"\n\s*\n")

_OPTION_A = re.compile(r"\([Aa]\)|\bA[):]|^A\.", re.MULTILINE)
_OPTION_B = re.compile(r"\([Bb]\)|\bB[):]|^B\.", re.MULTILINE)
_POLAR = re.compile(
    r"(?:is|are|was|were|am|does|do|did|has|have|had|can|could|will|would|should|may|might|must)\b|.*\b(?:true or false|yes or no)\b",
    re.IGNORECASE | re.DOTALL,
)
_WANTS_WORDS = re.compile(
    r"\b(?:what time|what is the time|when (?:do|does|did|is|was|will)|weekday|which day|what day|alphabetical|letters|backwards"
    r"|right to left|from a to z|order of)\b",
    re.IGNORECASE,
)
_WANTS_COUNT = re.compile(r"\b(?:how (?:many|much|often|old|far|long|tall)|number of|times does the letter|count the)\b", re.IGNORECASE)
_WANTS_VALUE = re.compile(
    r"\b(?:calculate|compute|evaluate|find [0-9]|sum|product|remainder|remains?|total|difference|subtract|multiply|divide|convert"
    r"|express|percent(?:age)?|sequence|next (?:number|term)|comes next|pattern is|which number|the result|what do you get"
    r"|add [0-9]+|take [0-9]+|work out|in dollars|value of|mod|modulo)\b|[0-9)]\s?[-+*/x×÷^]\s?[0-9(]|\bx\s?=",
    re.IGNORECASE,
)


class Stated(NamedTuple):
    """A final answer as the reply spells it, in its own case: all that was said, and the first sentence of it."""

    passage: str
    sentence: str


def infer_kind(question: str) -> AnswerKind:
    """The kind of answer a question asks for: lettered options, yes or no, a number, else text."""
    tail = question[-TAIL_CHARS:].strip()
    if _OPTION_A.search(tail) and _OPTION_B.search(tail):
        return "choice"
    if any(_POLAR.match(sentence) for sentence in _questions(tail)):
        return "yesno"
    if _WANTS_COUNT.search(tail):
        return "number"
    if _WANTS_WORDS.search(tail):
        return "text"
    return "number" if _WANTS_VALUE.search(tail) else "text"


def kind_of(answer: str, question: str) -> AnswerKind:
    """The kind of a reference answer, read from the answer itself; the question only tells a choice from a letter."""
    bare = _clean(answer[:TAIL_CHARS])
    if len(bare.strip("()")) == 1 and bare.strip("()").isalpha() and infer_kind(question) == "choice":
        return "choice"
    if _YES_NO.fullmatch(bare):
        return "yesno"
    number = _NUMBER.fullmatch(_plain_numbers(bare.rstrip("% ")))
    return "number" if number and _value(number) is not None else "text"


def extract(text: str, kind: AnswerKind) -> str | None:
    """The final answer in a model's reply, normalised; None where nothing can be parsed.

    The last stated answer wins ("The answer is X.", "#### X", `\\boxed{X}`, "Answer: X"); without one, a short reply
    is the answer, and of a long one the last number, letter or yes/no counts.
    """
    tail = text.rstrip()[-TAIL_CHARS:]
    for stated in _stated(tail):
        answer = normalise(_as_list(stated) if kind == "text" else _within_reach(stated), kind)
        if answer is not None:
            return answer
    return _LAST[kind](_clean(tail))


def as_stated(text: str, kind: AnswerKind) -> Stated:
    """What `extract` reads of a reply, not normalised: for patterns and scorers that tell capitals and lines apart.

    Behind a marker the passage is all that follows; without one it is the last paragraph, and the sentence is in its last
    line, empty where that is too long for an answer.
    """
    tail = text.rstrip()[-TAIL_CHARS:]
    for stated in _stated(tail):
        if normalise(_within_reach(stated), kind) is not None:
            passage = _clean(stated)
            return Stated(passage, first_sentence(passage))
    passage = _PARAGRAPH.split(_clean(tail))[-1]
    last = _last_line(passage)
    return Stated(passage, first_sentence(last) if len(last) <= SHORT_CHARS else "")


def normalise(answer: str, kind: AnswerKind) -> str | None:
    """The one spelling of an answer: equal answers of a kind have equal spellings. None where it is none of that kind.

    Numbers are exact: "1,234.50", "$1234.5" and "2469/2" are all "1234.5"; a percent sign is dropped.
    """
    return _READ[kind](_clean(answer[:TAIL_CHARS]))


def normal_reference(reference: str, kind: AnswerKind) -> str | None:
    """`normalise` of an answer that somebody wrote to compare with: of a text all lines count, and not the first sentence only."""
    lines = [line.strip() for line in reference[:TAIL_CHARS].split("\n") if line.strip()]
    is_plain = kind == "text" and len(lines) > 1 and not _has_form("\n".join(lines), len(lines))
    return normalise(_listed(lines) if is_plain else reference, kind)


def as_reference(reply: str, reference: str) -> str | None:
    """A reference of several lines, normalised as a text, where a reply's answer begins with just these; None where it does not.

    Without the reference nobody can tell "Answer: apple / pear" from an answer with a remark below it, so `extract` reads one
    line of both. What follows must stand apart.
    """
    n_lines = sum(bool(line.strip()) for line in reference[:TAIL_CHARS].split("\n"))
    if n_lines < 2:
        return None
    lines = [line.strip() for line in as_stated(reply, "text").passage.split("\n")]
    filled = [at for at, line in enumerate(lines) if line]
    if len(filled) < n_lines:
        return None
    end = filled[n_lines - 1] + 1
    stands_apart = not any(lines[end : end + 1])
    normal = normal_reference(reference, "text")
    return normal if stands_apart and normal_reference("\n".join(lines[:end]), "text") == normal else None


def same(a: str, b: str, kind: AnswerKind) -> bool:
    """Whether two answers of a kind mean the same. What cannot be parsed equals nothing, not even itself."""
    left = normalise(a, kind)
    return left is not None and left == normalise(b, kind)


def number(text: str) -> Fraction | None:
    """The number a short text states, exactly; None where there is none."""
    return _first_number(_clean(text[:TAIL_CHARS]))


def _questions(text: str) -> Iterator[str]:
    """The sentences that end in a question mark, without what leads up to them."""
    for part in text.split("?")[:-1]:
        yield _LEAD_UP.split(part)[-1].strip()


def _stated(tail: str) -> Iterator[str]:
    """What stands behind each marker, last marker first."""
    for marker in reversed(list(_MARKER.finditer(tail))[-STATED_TRIES:]):
        behind = tail[marker.end() :]
        yield _braced(behind) if marker["box"] else behind


def _within_reach(stated: str) -> str:
    """As much as may be the answer: a grid or a list is longer than a sentence."""
    bare = stated.lstrip()
    return bare if _has_form(bare.lstrip("`*: \n\t"), 2) else bare[:STATED_CHARS]


def _as_list(stated: str) -> str:
    """A text that takes several lines below its marker, as a list of them; any other as far as it may be the answer."""
    lines = announced_lines(stated)
    if not lines:
        return _within_reach(stated)
    together = "\n".join(lines)
    return together if len(lines) == 1 or _has_form(together, 2) else _listed(lines)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _has_form(text: str, n_lines: int) -> bool:
    """Whether a text begins with a grid or a list of so many lines."""
    return max(len(grid_rows(text)), len(list_items(text))) >= n_lines


def _braced(text: str) -> str:
    """The part before the brace that closes an already opened one."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:i]
    return text


def _clean(text: str) -> str:
    """The text without markup; minus signs, and the dash that is written for one, as ASCII.

    What is left may be markup again: a reading must not differ when it is read.
    """
    for _ in range(MAX_NESTED):
        if not _MARKUP.search(text):
            break
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return text.replace("−", "-").replace("–", "-").strip()


def _plain_numbers(text: str) -> str:
    """Digits alone for what is written with more: groups, mixed numbers ("1 3/4", "1¾"), powers, and roots that are whole."""
    if not text.isascii() or _ASCII_GAP.search(text):
        text = _GROUPED.sub(lambda grouped: _NO_DIGIT.sub("", grouped[0]), text)
        text = _VULGAR.sub(lambda vulgar: f"{vulgar[1]} {normalize('NFKC', vulgar[2]).replace('⁄', '/')}".lstrip(), text)
    if "/" in text:
        text = _MIXED.sub(lambda mixed: _improper(mixed) if int(mixed[2]) < int(mixed[3]) else mixed[0], text)
    if "^" in text:
        text = _RAISED.sub(_raised, _POWER.sub(r"e\1\2", text))
    return _ROOT.sub(_root, text) if "sqrt" in text or "√" in text else text


def _raised(power: re.Match[str]) -> str:
    base, exponent = int(power[1]), int(power[2] or power[3])
    return power[0] if base == 0 and exponent < 0 else str(Fraction(base) ** exponent)


def _root(root: re.Match[str]) -> str:
    """The root of a square, anything else as it is."""
    whole = math.isqrt(int(root[1]))
    return str(whole) if whole * whole == int(root[1]) else root[0]


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def _last_line(text: str) -> str:
    return text.rsplit("\n", 1)[-1].strip()


def _value(match: re.Match[str]) -> Fraction | None:
    numerator, _, denominator = _IN_NUMBERS.sub("", match[0]).partition("/")
    if len(match[0]) > MAX_NUMBER_CHARS or (denominator and int(denominator) == 0):
        return None
    # Reading digits as a fraction's text takes five times as long as reading them as a whole number.
    whole = Fraction(int(numerator) if numerator.isdecimal() else numerator)
    return whole / int(denominator) if denominator else whole


def _first_match(text: str) -> re.Match[str] | None:
    """The first number of the first line that is not denied; behind the last "=" where the line is an equation."""
    return next(_not_denied(_NUMBER, _plain_numbers(_first_line(text).rpartition("=")[2])), None)


def _not_denied(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Where a pattern is found, but not right behind a "not"."""
    return (match for match in pattern.finditer(text) if not _is_denied(match))


def _is_denied(match: re.Match[str]) -> bool:
    return _DENIED.search(match.string, max(0, match.start() - DENIAL_CHARS), match.start()) is not None


def _first_number(text: str) -> Fraction | None:
    match = _first_match(text)
    return _value(match) if match else None


def _spelled(match: re.Match[str]) -> str | None:
    if match[0].isdecimal() and len(match[0]) <= MAX_NUMBER_CHARS:
        return str(int(match[0]))  # as most are; a fraction takes ten times as long
    value = _value(match)
    return None if value is None else _spell(value)


def _spell(value: Fraction) -> str | None:
    """Whole, terminating decimal, or a reduced fraction: one spelling for one number; None for one too long to be meant."""
    places = _decimal_places(value.denominator)
    if places is None or places == 0:
        spelled = str(value)
    else:
        digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
        spelled = f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return spelled if len(spelled) <= MAX_NUMBER_CHARS else None


def _decimal_places(denominator: int) -> int | None:
    """How many decimals 1/denominator takes; None where it never ends."""
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    return max(twos, fives) if denominator == 1 else None


def _read_number(text: str) -> str | None:
    match = _first_match(text)
    return _spelled(match) if match else None


def _last_number(text: str) -> str | None:
    numbers = reversed(list(_NUMBER.finditer(_plain_numbers(text))))
    return next((spelled for match in numbers if not _is_denied(match) and (spelled := _spelled(match)) is not None), None)


def _read_choice(text: str) -> str | None:
    match = _LEADING_LETTER.match(text) or next(_not_denied(_LONE_LETTER, _first_line(text)), None)
    return (match[1] or match[2]).upper() if match else None


def _last_choice(text: str) -> str | None:
    if len(text.strip("().:* ")) == 1:
        return _read_choice(text)
    letters = [match[1] or match[2] for match in _not_denied(_LONE_LETTER, text)]
    return letters[-1].upper() if letters else None


def _yes_or_no(match: re.Match[str]) -> str:
    is_yes = (match[2].lower() in ("yes", "true")) == (match[1] is None)
    return "yes" if is_yes else "no"


def _read_yesno(text: str) -> str | None:
    match = _YES_NO.search(_first_line(text))
    return _yes_or_no(match) if match else None


def _last_yesno(text: str) -> str | None:
    words = list(_YES_NO.finditer(text))
    if words and _VERDICT_FIRST.match(text) and not any(word[2].lower() in ("yes", "no") for word in words[1:]):
        return _yes_or_no(words[0])  # what is true or false behind it may be anything
    verdicts = [match for match in words if match[2] != "no" or not _NONE_OF.match(text, match.end())]
    return _yes_or_no((verdicts or words)[-1]) if words else None


def _read_text(text: str) -> str | None:
    """The items of a list or the rows of a grid, else the first sentence.

    Case, spacing, quotes, full stops, kinds of bullets and a zero before the hour do not matter; nor do commas in a row of
    letters.
    """
    items = [read for item in list_items(text) if (read := _read_line(item))]
    several = _listed(items) if len(items) > 1 else text.casefold()
    rows = grid_rows(several)
    if len(rows) > 1 and len(rows) >= len(items):
        return "\n".join(map(" ".join, rows))
    return several if len(items) > 1 else _read_line(undotted_sentence(text))


def _read_line(line: str) -> str | None:
    spaced = " ".join(line.casefold().split())
    words = spaced.lstrip(_QUOTES).rstrip(_QUOTES + ".,;!?").split()
    letters = [word.rstrip(",") for word in words]
    joined = " ".join(letters if all(len(letter) == 1 and letter.isalnum() for letter in letters) else words)
    return _PADDED_HOUR.sub("", joined) or None


def _last_text(text: str) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and len(max(lines, key=len)) <= SHORT_CHARS and _has_form("\n".join(lines), len(lines)):
        return _read_text(text)
    last = _last_line(text)
    return _read_text(last) if len(last) <= SHORT_CHARS else None


_READ: dict[AnswerKind, Callable[[str], str | None]] = {
    "number": _read_number,
    "choice": _read_choice,
    "yesno": _read_yesno,
    "text": _read_text,
}
_LAST: dict[AnswerKind, Callable[[str], str | None]] = {
    "number": _last_number,
    "choice": _last_choice,
    "yesno": _last_yesno,
    "text": _last_text,
}

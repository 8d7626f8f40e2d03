"""Everyday families: comparing numbers, weekdays, clock times, units and chains of true and false."""

from __future__ import annotations

import random
import string

from rheostat.data.problems.base import Problem, Scratch, Solver

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
UNITS = (
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("meters", "centimeters", 100),
    ("kilograms", "grams", 1000),
    ("dozens", "pieces", 12),
    ("feet", "inches", 12),
    ("years", "months", 12),
)


def comparison(rng: random.Random, level: int) -> Problem:
    """Choose the largest or smallest of `level` + 1 numbers, given as lettered options."""
    options = rng.sample(range(10**level, 10 ** (level + 1)), level + 1)
    if level > 1:  # neighbours that differ late make reading the first digit useless
        base = options[0] // 10 * 10
        options = [base + d for d in rng.sample(range(10), level + 1)]
    largest = rng.random() < 0.5
    word = rng.choice(["largest", "biggest", "greatest"] if largest else ["smallest", "least", "lowest"])
    listed = " ".join(f"({letter}) {n}" for letter, n in zip(string.ascii_uppercase, options, strict=False))
    question = rng.choice(
        [
            f"Which number is the {word}? {listed}",
            f"Choose the {word} number: {listed}",
            f"Pick the option with the {word} value. {listed}",
            f"Of these, which is {word}? {listed}",
        ]
    )
    best = (max if largest else min)(options)
    answer = string.ascii_uppercase[options.index(best)]
    return Problem("comparison", level, question, answer, "choice", _keep_better(options, largest))


def _keep_better(options: list[int], largest: bool) -> Solver:
    def solve(scratch: Scratch) -> str:
        best, choose = options[0], max if largest else min
        for n in options[1:]:
            kept = scratch.word(f"{best} or {n}:", str(choose(best, n)), [str(best), str(n)])
            best = int(kept)
        return string.ascii_uppercase[options.index(best)]

    return solve


def weekday(rng: random.Random, level: int) -> Problem:
    """The day of the week some days from today."""
    today = rng.randrange(7)
    days = rng.randint(*((1, 6), (7, 20), (21, 99), (100, 365))[level - 1])
    ahead = level == 1 or rng.random() < 0.7
    day = DAYS[today]
    question = rng.choice(
        [
            f"Today is {day}. What day will it be in {days} days?",
            f"If it is {day} now, which weekday comes {days} days later?",
            f"A trip starts on {day} and lasts {days} days. On which weekday does it end?",
        ]
        if ahead
        else [f"Today is {day}. What day was it {days} days ago?", f"If it is {day} now, which weekday was {days} days before?"]
    )
    answer = DAYS[(today + (days if ahead else -days)) % 7]
    return Problem("weekday", level, question, answer, "text", _walk_days(today, days, ahead))


def _walk_days(today: int, days: int, ahead: bool) -> Solver:
    def solve(scratch: Scratch) -> str:
        rest, sign = 0, "+" if ahead else "-"
        for digit in str(days):
            rest = scratch.number(f"{10 * rest + int(digit)} mod 7", (10 * rest + int(digit)) % 7)
        day = DAYS[(today + (rest if ahead else -rest)) % 7]
        return scratch.word(f"{DAYS[today]} {sign} {rest}:", day, DAYS)

    return solve


def clock(rng: random.Random, level: int) -> Problem:
    """A clock time some minutes (and hours, and past noon) later, on a 24 hour clock."""
    hour, minute = rng.randint(1, 11), rng.randrange(0, 60, 5 if level < 3 else 1)
    hours = 0 if level == 1 else rng.randint(1, 4 if level < 4 else 23)
    minutes = rng.randrange(5, 60, 5 if level < 3 else 1)
    span = f"{minutes} minutes" if not hours else f"{hours} hours and {minutes} minutes"
    time = f"{hour}:{minute:02d}"
    question = rng.choice(
        [
            f"It is {time}. What time will it be in {span}?",
            f"A train leaves at {time} and travels for {span}. When does it arrive?",
            f"A film begins at {time} and takes {span}. When does it end?",
            f"What is the time {span} after {time}?",
        ]
    )
    total = hour * 60 + minute + hours * 60 + minutes
    answer = f"{total // 60 % 24}:{total % 60:02d}"
    return Problem("clock", level, question, answer, "text", _add_time(hour, minute, hours, minutes))


def _add_time(hour: int, minute: int, hours: int, minutes: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        total = scratch.number(f"{minute}+{minutes}", minute + minutes)
        carry = int(total >= 60)
        if carry:
            total = scratch.number(f"{total}-60", total - 60)
        end = scratch.number(f"{hour}+{hours}+{carry}", hour + hours + carry)
        if end >= 24:
            end = scratch.number(f"{end}-24", end - 24)
        return f"{end}:{total:02d}"

    return solve


def units(rng: random.Random, level: int) -> Problem:
    """Convert one amount; an amount and a rest; the sum of two such; several times such."""
    large, small, factor = rng.choice(UNITS)
    a, b = rng.randint(2, 9 + 5 * level), rng.randint(1, factor - 1)
    c, d = rng.randint(2, 12), rng.randint(2, 6)
    amount, steps = f"{a} {large}", [("*", a, factor)]
    if level > 1:
        amount, steps = f"{amount} and {b} {small}", [*steps, ("+", 0, b)]
    if level == 3:
        amount, steps = f"{amount} plus another {c} {small}", [*steps, ("+", 0, c)]
    if level == 4:
        amount, steps = f"{d} times {amount}", [*steps, ("*", 0, d)]
    question = rng.choice(
        [
            f"How many {small} are {amount}?",
            f"Convert {amount} to {small}.",
            f"Express {amount} in {small}.",
            f"{amount} is how many {small}?",
        ]
    )
    value = a * factor + (b if level > 1 else 0) + (c if level == 3 else 0)
    value *= d if level == 4 else 1
    return Problem("units", level, question, str(value), "number", _convert(steps))


def _convert(steps: list[tuple[str, int, int]]) -> Solver:
    def solve(scratch: Scratch) -> str:
        value = steps[0][1]
        for operator, _, n in steps:
            value = scratch.number(f"{value}{operator}{n}", value * n if operator == "*" else value + n)
        return str(value)

    return solve


def logic(rng: random.Random, level: int) -> Problem:
    """A chain of statements, each the same as or the opposite of an earlier one. Is the last one true?"""
    names = rng.sample(string.ascii_uppercase, (2, 3, 5, 7)[level - 1])
    truth = rng.random() < 0.5
    links = [rng.random() < 0.5 for _ in names[1:]]
    sentences = [f"{names[0]} is {str(truth).lower()}."]
    for before, name, same in zip(names, names[1:], links, strict=False):
        same_as = rng.choice(["is the same as", "agrees with", "is equal to"])
        opposite = rng.choice(["is the opposite of", "disagrees with", "is not equal to"])
        sentences.append(f"{name} {same_as if same else opposite} {before}.")
    ask = rng.choice([f"Is {names[-1]} true?", f"Does {names[-1]} hold?", f"Is {names[-1]} a true statement?"])
    answer = "yes" if truth == (links.count(False) % 2 == 0) else "no"
    return Problem("logic", level, " ".join([*sentences, ask]), answer, "yesno", _propagate(names, truth, links))


def _propagate(names: list[str], truth: bool, links: list[bool]) -> Solver:
    def solve(scratch: Scratch) -> str:
        current = scratch.word(names[0], str(truth).lower(), ["true", "false"])
        for name, same in zip(names[1:], links, strict=True):
            flipped = "false" if current == "true" else "true"
            current = scratch.word(name, current if same else flipped, ["true", "false"])
        return "yes" if current == "true" else "no"

    return solve

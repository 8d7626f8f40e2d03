"""Arithmetic families: addition, subtraction, multiplication, remainder, chains and sequences."""

from __future__ import annotations

import random

from rheostat.data.problems.base import Problem, Scratch, Solver


def _digits(rng: random.Random, n: int) -> int:
    return rng.randint(10 ** (n - 1) if n > 1 else 0, 10**n - 1)


def addition(rng: random.Random, level: int) -> Problem:
    """Two numbers of `level` digits, added digit by digit from the right."""
    a, b = _digits(rng, level), _digits(rng, level)
    question = rng.choice(
        [
            f"What is {a} + {b}?",
            f"Compute {a} + {b}.",
            f"{a} + {b} = ?",
            f"Add {a} and {b}.",
            f"Find the sum of {a} and {b}.",
            f"Please calculate {a} plus {b}.",
            f"How much is {a} plus {b}?",
            f"What do you get when you add {b} to {a}?",
            f"Give the total of {a} and {b}.",
        ]
    )
    return Problem("addition", level, question, str(a + b), "number", _add_by_digits(a, b))


def _add_by_digits(a: int, b: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        carry, digits = 0, ""
        for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
            total = scratch.number(f"{x}+{y}+{carry}", int(x) + int(y) + carry)
            carry, digits = total // 10, f"{total % 10}{digits}"
        return str(int(f"{carry}{digits}"))

    return solve


def subtraction(rng: random.Random, level: int) -> Problem:
    """The smaller of two numbers of `level` digits taken from the larger, with borrows."""
    b, a = sorted((_digits(rng, level), _digits(rng, level)))
    question = rng.choice(
        [
            f"What is {a} - {b}?",
            f"Compute {a} - {b}.",
            f"{a} - {b} = ?",
            f"Subtract {b} from {a}.",
            f"Find the difference between {a} and {b}.",
            f"Please calculate {a} minus {b}.",
            f"How much is {a} minus {b}?",
            f"Take {b} away from {a}. What is left?",
        ]
    )
    return Problem("subtraction", level, question, str(a - b), "number", _subtract_by_digits(a, b))


def _subtract_by_digits(a: int, b: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        borrow, digits = 0, ""
        for x, y in zip(reversed(str(a)), reversed(str(b).zfill(len(str(a)))), strict=True):
            need = int(y) + borrow
            borrow = int(int(x) < need)
            top = int(x) + 10 * borrow
            digits = f"{scratch.number(f'{top}-{need}', top - need) % 10}{digits}"
        return str(int(digits))

    return solve


def multiplication(rng: random.Random, level: int) -> Problem:
    """1x1, 2x1, 3x1 and 2x2 digits, by partial products."""
    n, m = ((1, 1), (2, 1), (3, 1), (2, 2))[level - 1]
    a, b = _digits(rng, n), max(_digits(rng, m), 2 if m == 1 else 11)
    question = rng.choice(
        [
            f"What is {a} * {b}?",
            f"Compute {a} * {b}.",
            f"{a} x {b} = ?",
            f"Multiply {a} by {b}.",
            f"Find the product of {a} and {b}.",
            f"Please calculate {a} times {b}.",
            f"How much is {a} times {b}?",
        ]
    )
    return Problem("multiplication", level, question, str(a * b), "number", _multiply_by_parts(a, b))


def _multiply_by_parts(a: int, b: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        total: int | None = None
        for x in _parts(a):
            for y in _parts(b):
                product = scratch.number(f"{x}*{y}", x * y)
                total = product if total is None else scratch.number(f"{total}+{product}", total + product)
        return str(total)

    return solve


def _parts(n: int) -> list[int]:
    """23 -> [20, 3]; zeros are left out unless the number is zero."""
    text = str(n)
    parts = [int(d) * 10 ** (len(text) - 1 - i) for i, d in enumerate(text) if d != "0"]
    return parts or [0]


def remainder(rng: random.Random, level: int) -> Problem:
    """A number of `level` + 1 digits modulo a small divisor, by long division."""
    a, b = _digits(rng, level + 1), rng.randint(3, 9)
    question = rng.choice(
        [
            f"What is the remainder when {a} is divided by {b}?",
            f"Find {a} mod {b}.",
            f"Compute {a} modulo {b}.",
            f"Divide {a} by {b}. What remains?",
            f"{a} sweets are shared equally among {b} children. How many are left over?",
            f"If you pack {a} eggs into boxes of {b}, how many eggs do not fill a box?",
        ]
    )
    return Problem("remainder", level, question, str(a % b), "number", _long_division(a, b))


def _long_division(a: int, b: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        rest = 0
        for digit in str(a):
            current = 10 * rest + int(digit)
            rest = scratch.number(f"{current} mod {b}", current % b)
        return str(rest)

    return solve


def chain(rng: random.Random, level: int) -> Problem:
    """`level` + 1 operations on a running value, told in words or as a nested expression."""
    value = rng.randint(2, 20)
    start, operations = value, []
    for _ in range(level + 1):
        choices = ["+", "-"] if value > 60 else ["+", "-", "*"]
        operator = rng.choice(choices)
        operand = rng.randint(2, 9) if operator == "*" else rng.randint(2, 30)
        if operator == "-" and operand > value:
            operator = "+"
        value = _apply(value, operator, operand)
        operations.append((operator, operand))
    question = _chain_question(rng, start, operations)
    return Problem("chain", level, question, str(value), "number", _run_chain(start, operations))


def _apply(value: int, operator: str, operand: int) -> int:
    return {"+": value + operand, "-": value - operand, "*": value * operand}[operator]


def _chain_question(rng: random.Random, start: int, operations: list[tuple[str, int]]) -> str:
    if rng.random() < 0.4:
        expression = str(start)
        for i, (operator, operand) in enumerate(operations):
            expression = f"{expression} {operator} {operand}"
            if i < len(operations) - 1:
                expression = f"({expression})"
        return rng.choice(["What is {}?", "Evaluate {}.", "Work out {}.", "Compute {}."]).format(expression)
    verbs = {
        "+": ["add {}", "increase it by {}", "plus {}"],
        "-": ["subtract {}", "take away {}", "minus {}"],
        "*": ["multiply by {}", "times {}", "make it {} times as large"],
    }
    steps = ", then ".join(rng.choice(verbs[operator]).format(operand) for operator, operand in operations)
    opening = rng.choice(["Start with {}, then {}.", "Take {}, then {}.", "Begin at {}, then {}."]).format(start, steps)
    return f"{opening} {rng.choice(['What is the result?', 'What do you get?', 'Which number is it now?'])}"


def _run_chain(start: int, operations: list[tuple[str, int]]) -> Solver:
    def solve(scratch: Scratch) -> str:
        value = start
        for operator, operand in operations:
            value = scratch.number(f"{value}{operator}{operand}", max(_apply(value, operator, operand), 0))
        return str(value)

    return solve


def sequence(rng: random.Random, level: int) -> Problem:
    """The next term: constant difference (small, large), constant ratio, growing difference."""
    terms = _terms(rng, level)
    shown = ", ".join(map(str, terms[:-1]))
    question = rng.choice(
        [
            f"What comes next: {shown}?",
            f"Continue the sequence {shown}.",
            f"Find the next number: {shown}, ...",
            f"Which number follows {shown}?",
            f"The pattern is {shown}. What is the next term?",
        ]
    )
    return Problem("sequence", level, question, str(terms[-1]), "number", _extend(terms[:-1], level))


def _terms(rng: random.Random, level: int) -> list[int]:
    if level == 3:
        first, ratio = rng.randint(2, 9), rng.randint(2, 4)
        return [first * ratio**i for i in range(4)]
    first, difference = (rng.randint(1, 20), rng.randint(2, 9)) if level < 2 else (rng.randint(1, 200), rng.randint(11, 60))
    growth = rng.randint(1, 6) if level == 4 else 0
    return [first + difference * i + growth * i * (i - 1) // 2 for i in range(5)]


def _extend(shown: list[int], level: int) -> Solver:
    def solve(scratch: Scratch) -> str:
        last = shown[-1]
        if level == 3:
            ratio = scratch.number(f"{shown[1]}/{shown[0]}", shown[1] // shown[0])
            return str(scratch.number(f"{last}*{ratio}", last * ratio))
        before = scratch.number(f"{shown[-2]}-{shown[-3]}", shown[-2] - shown[-3])
        step = scratch.number(f"{last}-{shown[-2]}", last - shown[-2])
        if level == 4:
            step = scratch.number(f"{step}+{max(step - before, 0)}", step + max(step - before, 0))
        return str(scratch.number(f"{last}+{step}", last + step))

    return solve

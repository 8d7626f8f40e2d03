"""Word problems: one running quantity told as a story, and totals of purchases."""

from __future__ import annotations

import random

from rheostat.data.problems.base import Problem, Scratch, Solver

NAMES = [
    "Ada",
    "Ben",
    "Carla",
    "Dmitri",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kavya",
    "Liam",
    "Mei",
    "Nadia",
    "Omar",
    "Priya",
    "Quinn",
    "Rosa",
    "Sven",
    "Tara",
    "Umar",
    "Vera",
    "Wei",
    "Xenia",
    "Yusuf",
    "Zoe",
]
THINGS = [
    "apples",
    "marbles",
    "stickers",
    "pencils",
    "books",
    "coins",
    "cards",
    "shells",
    "stamps",
    "beads",
    "cookies",
    "balloons",
    "buttons",
    "stones",
    "flowers",
    "keys",
    "tickets",
    "photos",
    "ribbons",
    "badges",
]
GOODS = {"pen": 9, "notebook": 12, "cap": 20, "mug": 15, "lamp": 30, "scarf": 25, "ball": 18, "puzzle": 22, "plant": 14}


def story(rng: random.Random, level: int) -> Problem:
    """`level` events that change how many things a person has."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    start = value = rng.randint(5, 40)
    events: list[tuple[str, int]] = []
    sentences = [
        rng.choice([f"{name} has {start} {thing}.", f"{name} starts with {start} {thing}.", f"There are {start} {thing} in {name}'s box."])
    ]
    for _ in range(level):
        operator, operand, sentence = _event(rng, name, thing, value)
        value = {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[operator]
        events.append((operator, operand))
        sentences.append(sentence)
    ask = rng.choice(
        [
            f"How many {thing} does {name} have now?",
            f"How many {thing} are there in the end?",
            f"What is the number of {thing} that {name} has at the end?",
        ]
    )
    return Problem("story", level, " ".join([*sentences, ask]), str(value), "number", _follow(start, events))


def _event(rng: random.Random, name: str, thing: str, value: int) -> tuple[str, int, str]:
    friend = rng.choice([n for n in NAMES if n != name])
    options = ["+", "+", "-"] if value > 5 else ["+"]
    options += ["*"] if value <= 40 else []
    divisors = [d for d in (2, 3, 4, 5) if value % d == 0 and value >= 2 * d]
    options += ["/"] if divisors else []
    operator = rng.choice(options)
    if operator == "*":
        n = rng.randint(2, 4)
        return (
            "*",
            n,
            rng.choice([f"Then the number of {thing} becomes {n} times as large.", f"A trick makes every one of the {thing} into {n}."]),
        )
    if operator == "/":
        n = rng.choice(divisors)
        return (
            "/",
            n,
            rng.choice([f"{name} shares them equally among {n} people and keeps one share.", f"{name} keeps only one of {n} equal piles."]),
        )
    n = rng.randint(2, min(30, value - 1) if operator == "-" else 30)
    if operator == "-":
        return (
            "-",
            n,
            rng.choice(
                [f"{name} gives {n} to {friend}.", f"{n} of them get lost.", f"{name} sells {n} of them.", f"{friend} takes {n} away."]
            ),
        )
    return (
        "+",
        n,
        rng.choice(
            [f"{name} buys {n} more.", f"{friend} gives {name} {n} more.", f"{name} finds {n} more {thing}.", f"{n} new ones arrive."]
        ),
    )


def _follow(start: int, events: list[tuple[str, int]]) -> Solver:
    def solve(scratch: Scratch) -> str:
        value = start
        for operator, n in events:
            result = {"+": value + n, "-": max(value - n, 0), "*": value * n, "/": value // n}[operator]
            value = scratch.number(f"{value}{operator}{n}", result)
        return str(value)

    return solve


def shopping(rng: random.Random, level: int) -> Problem:
    """`level` kinds of goods bought, their prices times counts summed."""
    name = rng.choice(NAMES)
    lines = [(rng.randint(2, 9), good, rng.randint(2, GOODS[good])) for good in rng.sample(sorted(GOODS), level)]
    wanted = ", ".join(f"{n} {good}s at {price} dollars each" for n, good, price in lines)
    question = rng.choice(
        [
            f"{name} buys {wanted}. How many dollars is that in total?",
            f"A shop sells {name} {wanted}. What is the bill in dollars?",
            f"{name} orders {wanted}. How much does {name} pay?",
        ]
    )
    total = sum(n * price for n, _, price in lines)
    return Problem("shopping", level, question, str(total), "number", _sum_up([(n, price) for n, _, price in lines]))


def _sum_up(lines: list[tuple[int, int]]) -> Solver:
    def solve(scratch: Scratch) -> str:
        total = 0
        for i, (n, price) in enumerate(lines):
            cost = scratch.number(f"{n}*{price}", n * price)
            total = cost if i == 0 else scratch.number(f"{total}+{cost}", total + cost)
        return str(total)

    return solve

"""Candidates and evidence from plain answers."""

import numpy as np

from rheostat.data.schema import Query
from rheostat.policies.base import Candidate, Context, Evidence, Example, Meter, Toolbox
from rheostat.policies.memory import TaskMemory


def candidate(answer, index=0, **fields):
    return Candidate(index=index, model="m", text=f"The answer is {answer}.", answer=answer, tokens=fields.pop("tokens", 10), **fields)


def candidates(answers):
    return tuple(candidate(answer, index) for index, answer in enumerate(answers))


def evidence(answers, planned=None):
    return Evidence(candidates=candidates(answers), chosen=0, why="", planned=len(answers) if planned is None else planned)


async def no_call(request, kind="completion"):
    raise AssertionError("no call expected")


def context(left=1000, **fields):
    meter = Meter(left)
    given = {"model": "m", "call": no_call, "left_tokens": lambda: meter.left_tokens, "kind": "number", "seed": 5}
    return Context(**(given | fields))


def question(text="What is 3+4?", **fields):
    return Query.of_text(text, **fields)


def embed(texts):
    """A vector of letter counts a text: the same letters, the same vector."""
    counts = np.array([[text.lower().count(letter) + 1e-6 for letter in "abcdefghijklmnopqrstuvwxyz0123456789"] for text in texts])
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


class Steps:
    """Scores every step alike."""

    name = "prm"

    async def steps(self, query, steps, call):
        return tuple(0.5 for _ in steps)

    async def score(self, query, candidate, call):
        return 0.5


def toolbox(**scorers):
    examples = [Example(f"What is {n}+{n}?", f"The answer is {2 * n}.") for n in range(9)]
    return Toolbox(scorers={"prm": Steps(), **scorers}, memory=TaskMemory(examples, embed, encoder_id="letters"), embed=embed)

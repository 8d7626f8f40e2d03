"""Candidates and evidence from plain answers."""

from rheostat.data.schema import Query
from rheostat.policies.base import Candidate, Context, Evidence, Meter


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

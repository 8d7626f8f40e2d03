"""What rewards are worth: best of n by the pocket process reward model, and by how likely `pocket-large` finds a chain.

Both against the vote and one sample, on the kept log's questions.

    python benchmarks/process_reward.py --n 8 --queries 400 --docs docs/strategies-results.md

Draws n new chains of thought for each question, since the log keeps no texts, and scores every one.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from rheostat.data.answers import same
from rheostat.data.schema import Query
from rheostat.data.steps import split_steps
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import Candidate, GenerateRequest, Meter
from rheostat.policies.engine import Engines
from rheostat.policies.evidence import candidate
from rheostat.policies.process import AGGREGATIONS
from rheostat.policies.prompts import step_by_step
from rheostat.policies.scorers.likelihood import Likelihood
from rheostat.policies.scorers.pooling import PoolingClient
from rheostat.policies.scorers.rewards import ProcessReward
from rheostat.policies.weights import POCKET_MODELS, POCKET_READER, POCKET_REWARD
from rheostat.training.bootstrap import Bootstrap
from rheostat.training.results_page import markdown, write_section

HEADING = "## Process reward model"
ONE_SAMPLE, VOTE = "one sample", "majority vote"
ANY_CAP = 10**9
CHAIN_TOKENS = 192
IN_FLIGHT = 16


class Scored(NamedTuple):
    """The chains of one question: the scores of their steps by the reward model, and how likely the reader finds each."""

    candidates: list[Candidate]
    steps: list[tuple[float, ...]]
    likely: list[float]


class Booked(Meter):
    """Books what reward calls read, and makes no call of its own."""

    async def __call__(self, request: GenerateRequest, kind: str = "completion") -> None:
        """Reward models generate nothing."""
        raise NotImplementedError

    def read_by(self, model: str) -> int:
        """Tokens that a model read to score."""
        return sum(attempt.ledger.prompt for attempt in self.attempts if attempt.kind == "verifier" and attempt.model == model)


def questions(log: Path, n: int) -> list[Query]:
    """The first n questions of a log with their references."""
    rows = pl.read_parquet(log).unique(["dataset", "query_id"], keep="first", maintain_order=True).head(n)
    return [
        Query.of_text(row["query_text"], query_id=row["query_id"], kind=row["kind"], reference=row["gold"], dataset=row["dataset"])
        for row in rows.iter_rows(named=True)
    ]


async def judged(
    queries: list[Query], backend: VllmBackend, reward: ProcessReward, reader: Likelihood, n: int, seed: int, booked: Booked
) -> list[Scored]:
    """For every question its chains and their scores."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int, query: Query) -> Scored:
        async with gate:
            asked, first = step_by_step(query.messages), seed + number * n
            request = GenerateRequest(model=backend.name, messages=asked, max_tokens=CHAIN_TOKENS, n=n, temperature=0.8, seed=first)
            drawn = (await backend.generate(request, booked)).completions
            candidates = [candidate(c, index=c.index, model=backend.name, kind=query.kind or "text") for c in drawn]
            steps = await asyncio.gather(*(reward.steps(query, split_steps(each.text), booked) for each in candidates))
            likely = await asyncio.gather(*(reader.score(query, each, booked) for each in candidates))
            return Scored(candidates, [found or () for found in steps], [found or 0.0 for found in likely])

    return await asyncio.gather(*(one(number, query) for number, query in enumerate(queries)))


def picks(query: Query, scored: Scored) -> dict[str, float]:
    """Whether each way to pick one of the candidates is right."""
    kind, reference = query.kind or "text", query.reference or ""
    right = [float(each.answer is not None and same(each.answer, reference, kind)) for each in scored.candidates]
    by = {f"prm, {name}": [aggregate(found) if found else 0.0 for found in scored.steps] for name, aggregate in AGGREGATIONS.items()}
    by["likelihood"] = scored.likely
    found = {ONE_SAMPLE: float(np.mean(right)), VOTE: voted(scored.candidates, right, [1.0] * len(right))}
    found |= {f"best by {name}": right[int(np.argmax(scores))] for name, scores in by.items()}
    weights = {"prm": by["prm, last"], "likelihood": by["likelihood"]}
    found |= {f"votes weighted by {name}": voted(scored.candidates, right, scores) for name, scores in weights.items()}
    return found | {"any of them": max(right)}


def voted(candidates: list[Candidate], right: list[float], weights: list[float]) -> float:
    """Whether the answer with the most weight is right; the earlier one of two as heavy."""
    total: dict[str, float] = {}
    for each, weight in zip(candidates, weights, strict=True):
        if each.answer is not None:
            total[each.answer] = total.get(each.answer, 0.0) + weight
    heaviest = max(total, key=total.__getitem__, default=None)
    return next((r for each, r in zip(candidates, right, strict=True) if each.answer is not None and each.answer == heaviest), 0.0)


async def measure(args: argparse.Namespace, model: str) -> str:
    """Draw and score the chains of one model; its part of the section."""
    engines = Engines(Path(args.state) / "engines")
    queries, booked = questions(Path(args.log), args.queries), Booked(ANY_CAP)
    urls = {name: engines.start(name).url for name in (model, POCKET_REWARD, POCKET_READER)}
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(VllmBackend(model, urls[model], model=model))
        rewarder = await stack.enter_async_context(PoolingClient(POCKET_REWARD, urls[POCKET_REWARD], model=POCKET_REWARD))
        reader = await stack.enter_async_context(PoolingClient(POCKET_READER, urls[POCKET_READER], model=POCKET_READER))
        found = await judged(queries, backend, ProcessReward(rewarder), Likelihood(reader), args.n, args.seed, booked)
    outcomes = [picks(query, each) for query, each in zip(queries, found, strict=True)]
    return lead(model, queries, found, booked) + "\n\n" + compared(outcomes, args.seed)


def lead(model: str, queries: list[Query], found: list[Scored], booked: Booked) -> str:
    """What was asked, how well the scores tell right answers from wrong ones, and what it took."""
    by_steps = area(queries, found, lambda each: [scores[-1] if scores else None for scores in each.steps])
    by_likelihood = area(queries, found, lambda each: each.likely)
    return (
        f"`{model}`, {len(queries)} questions, {len(found[0].candidates)} chains each at temperature 0.8: area under the curve of right "
        f"answers by the score of their last step {by_steps:.3f}, by how likely `{POCKET_READER}` finds a token of them "
        f"{by_likelihood:.3f}; {booked.ledger.generated:,} tokens generated, {booked.read_by(POCKET_REWARD):,} read by the reward model "
        f"and {booked.read_by(POCKET_READER):,} by `{POCKET_READER}`."
    )


def compared(outcomes: list[dict[str, float]], seed: int) -> str:
    """Every way to pick, against one sample and the vote, paired by question."""
    bootstrap = Bootstrap(len(outcomes), seed=seed)
    columns = {name: np.array([each[name] for each in outcomes]) for name in outcomes[0]}
    rows = []
    for name, values in columns.items():
        share, *gains = (bootstrap.interval(values - base) for base in (0.0, columns[ONE_SAMPLE], columns[VOTE]))
        rows.append([name, f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f})", *[f"{gain:+.3f}" for gain in gains]])
    return markdown(["pick", "right (95%)", "over one sample", "over the vote"], rows)


def area(queries: list[Query], found: list[Scored], scores_of: Callable[[Scored], Sequence[float | None]]) -> float:
    """Under the curve of right answers by their scores, over all answers that have one."""
    labels, scores = [], []
    for query, scored in zip(queries, found, strict=True):
        for each, score in zip(scored.candidates, scores_of(scored), strict=True):
            if score is not None and each.answer is not None:
                labels.append(same(each.answer, query.reference or "", query.kind or "text"))
                scores.append(score)
    return float(roc_auc_score(labels, scores))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="whose chains are scored; repeat; both pocket models when left out")
    parser.add_argument("--log", default="data/logs/pocket.parquet", help="whose questions are asked")
    parser.add_argument("--n", type=int, default=8, help="chains for each question")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--state", default=".rheostat", help="folder of the engines")
    parser.add_argument("--docs", type=Path, help="page whose section is written")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    models = args.model or list(POCKET_MODELS)
    command = f"python benchmarks/process_reward.py --n {args.n} --queries {args.queries} --seed {args.seed}"
    command += "".join(f" --model {model}" for model in args.model or ())
    parts = [HEADING, f"Written by `{command}`.", *(asyncio.run(measure(args, model)) for model in models)]
    page = "\n\n".join(parts) + "\n"
    print(page)
    if args.docs is not None:
        write_section(args.docs, page)


if __name__ == "__main__":
    main()

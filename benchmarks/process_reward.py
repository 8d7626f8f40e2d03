"""What the pocket process reward model is worth: best of n by it, against the vote and one sample, on the kept log's questions.

    python benchmarks/process_reward.py --n 8 --queries 400 --docs docs/strategies-results.md

Draws n new chains of thought for each question, since the log keeps no texts, and scores every one.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from rheostat.data.answers import same
from rheostat.data.schema import Query
from rheostat.data.steps import split_steps
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import Candidate, GenerateRequest, Meter
from rheostat.policies.engine import Engines
from rheostat.policies.evidence import candidate, count_votes
from rheostat.policies.process import AGGREGATIONS
from rheostat.policies.prompts import step_by_step
from rheostat.policies.scorers.pooling import PoolingClient
from rheostat.policies.scorers.rewards import ProcessReward
from rheostat.policies.weights import POCKET_MODELS, POCKET_REWARD
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.results_page import markdown, write_section

HEADING = "## Process reward model"
ONE_SAMPLE, VOTE = "one sample", "majority vote"
ANY_CAP = 10**9
CHAIN_TOKENS = 192
IN_FLIGHT = 16


class Booked(Meter):
    """Books what reward calls read, and makes no call of its own."""

    async def __call__(self, request: GenerateRequest, kind: str = "completion") -> None:
        """Reward models generate nothing."""
        raise NotImplementedError


def questions(log: Path, n: int) -> list[Query]:
    """The first n questions of a log with their references."""
    rows = pl.read_parquet(log).unique(["dataset", "query_id"], keep="first", maintain_order=True).head(n)
    return [
        Query.of_text(row["query_text"], query_id=row["query_id"], kind=row["kind"], reference=row["gold"], dataset=row["dataset"])
        for row in rows.iter_rows(named=True)
    ]


async def judged(queries: list[Query], backend: VllmBackend, client: PoolingClient, model: str, n: int, seed: int, booked: Booked):
    """For every question its candidates and the scores of their steps."""
    reward, gate = ProcessReward(client), asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int, query: Query) -> tuple[list[Candidate], list[tuple[float, ...]]]:
        async with gate:
            request = GenerateRequest(
                model=model, messages=step_by_step(query.messages), max_tokens=CHAIN_TOKENS, n=n, temperature=0.8, seed=seed + number * n
            )
            drawn = (await backend.generate(request, booked)).completions
            candidates = [candidate(c, index=c.index, model=model, kind=query.kind or "text") for c in drawn]
            scores = await asyncio.gather(*(reward.steps(query, split_steps(each.text), booked) for each in candidates))
            return candidates, [found or () for found in scores]

    return await asyncio.gather(*(one(number, query) for number, query in enumerate(queries)))


def picks(query: Query, candidates: list[Candidate], steps: list[tuple[float, ...]]) -> dict[str, float]:
    """Whether each way to pick one of the candidates is right."""
    right = [float(each.answer is not None and same(each.answer, query.reference or "", query.kind or "text")) for each in candidates]
    by = {name: [aggregate(found) if found else 0.0 for found in steps] for name, aggregate in AGGREGATIONS.items()}
    leader = count_votes(candidates).leader
    weights: dict[str, float] = {}
    for each, score in zip(candidates, by["last"], strict=True):
        if each.answer is not None:
            weights[each.answer] = weights.get(each.answer, 0.0) + score
    heaviest = max(weights, key=weights.__getitem__, default=None)
    first = {name: next((r for each, r in zip(candidates, right, strict=True) if each.answer == name), 0.0) for name in (leader, heaviest)}
    found = {ONE_SAMPLE: float(np.mean(right)), VOTE: first[leader]}
    found |= {f"best by prm, {name}": right[int(np.argmax(scores))] for name, scores in by.items()}
    return found | {"votes weighted by prm": first[heaviest], "any of them": max(right)}


async def measure(args: argparse.Namespace, model: str) -> str:
    """Draw and score the chains of one model; its part of the section."""
    engines = Engines(Path(args.state) / "engines")
    writer, rewarder = engines.start(model), engines.start(POCKET_REWARD)
    queries, booked = questions(Path(args.log), args.queries), Booked(ANY_CAP)
    client = PoolingClient(POCKET_REWARD, rewarder.url, model=POCKET_REWARD)
    async with VllmBackend(model, writer.url, model=model) as backend, client:
        found = await judged(queries, backend, client, model, args.n, args.seed, booked)
    outcomes = [picks(query, *each) for query, each in zip(queries, found, strict=True)]
    labels, scores = labelled(queries, found)
    read = sum(attempt.ledger.prompt for attempt in booked.attempts if attempt.kind == "verifier")
    lead = (
        f"`{model}`, {len(queries)} questions, {args.n} chains each at temperature 0.8: area under the curve of right answers by their "
        f"score {roc_auc_score(labels, scores):.3f}; {booked.ledger.generated:,} tokens generated, {read:,} read by the reward model."
    )
    return lead + "\n\n" + compared(outcomes, args.seed)


def compared(outcomes: list[dict[str, float]], seed: int) -> str:
    """Every way to pick, against one sample and the vote, paired by question."""
    bootstrap = Bootstrap(len(outcomes), seed=seed)
    columns = {name: np.array([each[name] for each in outcomes]) for name in outcomes[0]}
    rows = []
    for name, values in columns.items():
        share, *gains = (bootstrap.interval(values - base) for base in (0.0, columns[ONE_SAMPLE], columns[VOTE]))
        rows.append([name, f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f})", *map(told, gains)])
    return markdown(["pick", "right (95%)", "over one sample", "over the vote"], rows)


def told(gain: Interval) -> str:
    """A difference with its interval."""
    return f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


def labelled(queries: list[Query], found: list[tuple[list[Candidate], list[tuple[float, ...]]]]) -> tuple[list[bool], list[float]]:
    """Every scored answer: whether it is right, and the score of its last step."""
    labels, scores = [], []
    for query, (candidates, steps) in zip(queries, found, strict=True):
        for each, scored in zip(candidates, steps, strict=True):
            if scored and each.answer is not None:
                labels.append(same(each.answer, query.reference or "", query.kind or "text"))
                scores.append(scored[-1])
    return labels, scores


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

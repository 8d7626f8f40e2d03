"""Simulated outcomes, and routers fitted on them: for measuring what things take, not how good they are.

Questions are drawn from templates, every action's chance of being right depends on the template, the numbers in it and
the action, and every outcome is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rheostat.router.base import Encoder
    from rheostat.router.bundle import Bundle

TEMPLATES = (
    "What is {a} + {b}?",
    "A box holds {a} red and {b} blue balls. What is the chance that a ball is red?",
    "List the first {a} primes after {b}.",
    "Is {a} larger than {b}? Answer yes or no.",
    "Ann walks {a} km a day for {b} days. How far does she walk?",
    "Sort these numbers: {a}, {b}, 17, 4.",
    "Find x with {a} x + {b} = 0.",
    "Which city is the capital of region {a} in atlas {b}?",
)
STRATEGIES = (("direct", 64, ""), ("cot", 256, ""), ("self_consistency", 768, "(k=4)"), ("self_consistency", 1536, "(k=8)"))


def simulated(n: int, n_actions: int, seed: int):  # type: ignore[no-untyped-def]
    """An outcome table of `n` queries whose rewards are all known."""
    from rheostat.training.outcomes import OutcomeTable

    rng = np.random.default_rng(seed)
    template, a, b = rng.integers(0, len(TEMPLATES), n), rng.integers(2, 10_000, n), rng.integers(2, 10_000, n)
    texts = tuple(TEMPLATES[t].format(a=x, b=y) for t, x, y in zip(template, a, b, strict=True))
    spellings = tuple(_spelling(number) for number in range(n_actions))
    easy = rng.normal(0, 1, len(TEMPLATES))[template] - 0.3 * np.log(a)[:, None].ravel() / 4
    strength = np.linspace(-1.0, 1.5, n_actions) + 0.4 * rng.normal(size=(len(TEMPLATES), n_actions))[template]
    cells = np.ones((n, n_actions))
    return OutcomeTable(
        query_ids=tuple(map(str, range(n))),
        texts=texts,
        datasets=tuple(f"template-{t}" for t in template),
        levels=(0,) * n,
        actions=spellings,
        reward=(rng.random((n, n_actions)) < 1 / (1 + np.exp(-(easy[:, None] + strength)))).astype(np.float64),
        tokens=cells * np.geomspace(5, 800, n_actions) * rng.uniform(0.7, 1.3, (n, n_actions)),
        prompt_tokens=cells * 20.0,
        latency_s=cells * np.geomspace(0.1, 8, n_actions),
        weight=cells,
    )


def _spelling(number: int) -> str:
    strategy, cap, shape = STRATEGIES[number % len(STRATEGIES)]
    return f"model-{number // len(STRATEGIES)}/{strategy}{shape}@{cap}"


def routers(encoder: Encoder, name: str, learners: Sequence[str], *, queries: int, actions: int) -> list[Bundle]:
    """A router for each learner, which are the same but for that: a simulation decides too easily which fits best."""
    from rheostat.training.fit import fit, fit_predictor, training_set
    from rheostat.training.split import split_rows

    table = simulated(queries, actions, seed=0)
    fitted = fit(table, encoder=encoder, encoder_name=name, prices={}, version=f"simulated-{name}").bundle
    data, split = training_set(table, fitted.encoder), split_rows(table.texts, seed=0)
    predictors = [fit_predictor(data, split, {learner: 1.0}, 0) for learner in learners]
    return [replace(fitted, predictor=each, canary_p=each.p_correct(fitted.canary)) for each in predictors]

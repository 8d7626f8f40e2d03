"""Where spending more than one greedy chain of thought pays and where nothing does, family by family.

Knows what actions gave on the queries that they share; knows no engine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rheostat.router.base import Array
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.results_page import markdown
from rheostat.training.sweep_grid import ONE_CHAIN, Grid, bare, best_of, chosen_within

ALL = "all of them"
PERFECT = "by=verifier"
MIN_QUERIES = 20  # of a family: half of them choose, half of them judge


class Finding(NamedTuple):
    """One family: what a greedy chain gets right, what the best dearer actions add, and what those with a perfect verifier add.

    `chosen` are the actions that were best on either half of the queries; what they add is judged on the other half.
    `perfect` is None where no such action was run.
    """

    family: str
    chain: float
    chosen: tuple[str, ...]
    gain: Interval
    perfect: Interval | None

    @property
    def pays(self) -> bool:
        """Whether the gain is clear of nought."""
        return self.gain.low > 0


def findings(held: Grid, *, seed: int = 0) -> list[Finding]:
    """A finding for every family with enough queries, and one for all queries; empty where no dearer action or no chain was run.

    Args:
        held: a model's actions.
        seed: of the resamples of queries.
    """
    families = {family: {key for key in held.keys if key[0] == family} for family, _ in held.keys}
    parts = {family.rpartition("/")[2]: held.on(keys) for family, keys in sorted(families.items()) if len(keys) >= MIN_QUERIES}
    found = [_finding(name, part, seed) for name, part in [*parts.items(), (ALL, held)]]
    return [each for each in found if each is not None]


def told(found: list[Finding]) -> str:
    """The findings as a sentence and a table; empty where there are none."""
    if not found:
        return ""
    lead = (
        "What the best action that costs more than one greedy chain, and asks neither another model nor the reference, adds to that "
        f"chain: chosen on one half of the queries, judged on the other. {_idle(found)}"
    )
    columns = ["family", "one greedy chain", "best dearer actions", "they add", "", "a perfect verifier would add"]
    return lead + "\n\n" + markdown(columns, [_line(each) for each in found])


def _idle(found: list[Finding]) -> str:
    """Where nothing pays, in words."""
    families = [each for each in found if each.family != ALL]
    if not families:
        return "Something clearly pays." if found[0].pays else "Nothing clearly pays."
    idle = [each.family for each in families if not each.pays]
    return f"Nothing clearly pays on {', '.join(idle)}." if idle else "On every family something clearly pays."


def _finding(name: str, held: Grid, seed: int) -> Finding | None:
    at = held.find(ONE_CHAIN)
    if at is None:
        return None
    chain, dearer = held.reward[:, at], held.cost.mean(axis=0) > held.cost[:, at].mean()
    if not (held.fair & dearer).any():
        return None
    folds, boot = np.arange(len(chain)) % 2, Bootstrap(len(chain), seed=seed)
    got = chosen_within(held, held.fair & dearer, np.inf, folds)
    columns = [best_of(held.reward[folds == fold], held.fair & dearer) for fold in (0, 1)]
    return Finding(
        family=name,
        chain=float(chain.mean()),
        chosen=tuple(dict.fromkeys(bare(held.actions[column]) for column in columns)),
        gain=boot.sure_interval(got - chain),
        perfect=_perfect(held, chain, boot),
    )


def _perfect(held: Grid, chain: Array, boot: Bootstrap) -> Interval | None:
    """What the dearest action that asks the reference adds."""
    asking = [at for at, name in enumerate(held.actions) if PERFECT in name]
    if not asking:
        return None
    dearest = max(asking, key=lambda at: float(held.cost[:, at].mean()))
    return boot.sure_interval(held.reward[:, dearest] - chain)


def _line(found: Finding) -> list[str]:
    chosen = ", ".join(f"`{name}`" for name in found.chosen)
    verdict = "pays" if found.pays else "nothing pays"
    perfect = "-" if found.perfect is None else f"{found.perfect:+.3f}"
    return [found.family, f"{found.chain:.3f}", chosen, f"{found.gain:+.3f}", verdict, perfect]

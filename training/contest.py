"""Is a challenger worth taking? Policies held against each other on the same held-out queries, with paired intervals.

A challenger beats a reference when it is more useful: the lower 95% bound of its utility over the reference's is above
zero. Or when it is surely cheaper and surely not less accurate by more than `MARGIN`, at the accuracy of the best fixed
action: then it is not shown to be better, and no text may say so. Knows no registry.
Source of non-inferiority: Piaggio et al. 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.router.bundle import Bundle
from rheostat.router.paths import Paths
from rheostat.training import baselines
from rheostat.training.baselines import Costed
from rheostat.training.bootstrap import Bootstrap, Interval, interval_of
from rheostat.training.judged import judge, kept_queries, price_vector
from rheostat.training.outcomes import Array, OutcomeTable

MARGIN = 0.01  # accuracy that may be lost where money is saved: one point, below what users notice
_POINTS = f"{100 * MARGIN:g} point"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a policy gives on each held-out query; all (n,).

    Attributes:
        utility: reward less priced cost, averaged over prices of accuracy.
        reward: at the operating point, which is the best fixed action's accuracy.
        cost_usd: there.
    """

    utility: Array
    reward: Array
    cost_usd: Array


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger held against one reference: differences are challenger minus reference, `saving` is 1 - cost ratio."""

    reference: str
    utility: Interval
    accuracy: Interval
    saving: Interval

    @property
    def better(self) -> bool:
        """Surely more useful."""
        return self.utility.low > 0

    @property
    def cheaper(self) -> bool:
        """Surely cheaper, and surely not less accurate by more than the margin."""
        return self.saving.low > 0 and self.accuracy.low > -MARGIN

    @property
    def won(self) -> bool:
        """Whether the challenger beats this reference."""
        return self.better or self.cheaper

    @property
    def shown(self) -> str:
        """What the intervals show, and no more than that: completes "the challenger is"."""
        if self.better:
            return f"more useful than {self.reference}"
        if self.cheaper:
            return f"cheaper than {self.reference} and less accurate by {_POINTS} at most"
        return f"not shown to be more useful than {self.reference}, nor cheaper and less accurate by {_POINTS} at most"

    def __str__(self) -> str:
        utility = f"utility over {self.reference} {_signed(self.utility)}"
        accuracy = f"accuracy {_signed(self.accuracy, 100, ' points')}"
        return f"{utility}, {accuracy}, cost saved {_signed(self.saving, 100, '%')}"


def against(challenger: Standing, reference: Standing, name: str, *, seed: int = 0) -> Against:
    """Paired differences with 95% intervals."""
    boot = Bootstrap(len(challenger.utility), seed=seed)
    costs = boot.means(np.stack([challenger.cost_usd, reference.cost_usd], axis=1))
    saving = 1 - challenger.cost_usd.mean() / max(float(reference.cost_usd.mean()), 1e-15)
    return Against(
        reference=name,
        utility=boot.sure_interval(challenger.utility - reference.utility),
        accuracy=boot.sure_interval(challenger.reward - reference.reward),
        saving=interval_of(float(saving), 1 - costs[:, 0] / np.maximum(costs[:, 1], 1e-15)),
    )


def contest(
    challenger: Bundle, champion: Bundle | None, test: OutcomeTable, prices: Mapping[str, Price], *, seed: int = 0
) -> list[Against]:
    """The challenger against the best fixed action and against the champion, if there is one.

    Args:
        test: queries the challenger was not fitted on. The champion may have seen some, which favours it.

    Raises:
        DatasetError: the table lacks an action of one of the bundles.
    """
    reference = _Reference.of(challenger, test, prices)
    standing = routed(challenger, test, prices, scale_usd=reference.scale_usd, target=reference.target)
    results = [against(standing, reference.standing, "the best fixed action", seed=seed)]
    if champion is not None:
        _check_known(champion, test)
        other = routed(champion, test, prices, scale_usd=reference.scale_usd, target=reference.target)
        results.append(against(standing, other, "the champion", seed=seed))
    return results


def _check_known(champion: Bundle, test: OutcomeTable) -> None:
    if unknown := [str(action) for action in champion.actions if str(action) not in test.actions]:
        raise DatasetError(
            f"the champion may take {unknown[0]}, of which the newer log has no outcomes (it has {', '.join(test.actions)}): "
            "train on a log with all of its actions, or compare the reports and promote with --force"
        )


def routed(bundle: Bundle, test: OutcomeTable, prices: Mapping[str, Price], *, scale_usd: float, target: float) -> Standing:
    """A bundle's standing under the `average` rule; its multiplier for the target comes from its own held-out queries."""
    judged = judge(bundle, test, prices)
    paths = Paths(bundle, price_vector(bundle, prices))
    multiplier, _ = paths.of(paths.every).for_target(target)
    there = baselines.average_rule(judged.p_correct, judged.cost_usd, judged.truth, np.array([multiplier]))
    utility = baselines.policy_utility(judged.p_correct, judged.cost_usd, judged.truth, scale_usd=scale_usd)
    return Standing(utility, there.reward[:, 0], there.cost_usd[:, 0])


@dataclass(frozen=True, slots=True)
class _Reference:
    """The best fixed action, chosen on the challenger's held-out queries; the scale and target that all are judged at."""

    standing: Standing
    scale_usd: float
    target: float

    @classmethod
    def of(cls, challenger: Bundle, test: OutcomeTable, prices: Mapping[str, Price]) -> _Reference:
        held = kept_queries(challenger, prices)
        best = baselines.best_fixed(held)
        scale = baselines.scale_usd(held)
        table = test.only([str(action) for action in challenger.actions])
        truth = Costed(table.reward, table.tokens, table.cost_usd(prices))
        utility = baselines.fixed_utility(held, truth, scale_usd=scale)
        return cls(Standing(utility, truth.reward[:, best], truth.cost_usd[:, best]), scale, float(held.reward[:, best].mean()))


def _signed(interval: Interval, scale: float = 1.0, unit: str = "") -> str:
    digits = 1 if scale > 1 else 4
    value, low, high = (f"{scale * number:+.{digits}f}" for number in (interval.value, interval.low, interval.high))
    return f"{value}{unit} (95% interval {low} to {high})"

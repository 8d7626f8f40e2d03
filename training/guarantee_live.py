"""What can be promised about a bundle from the live log of another router: learn then test, with importance weights.

The log must be newer than the bundle: rows it was trained on prove nothing about it. A question asked again is no further
evidence, so that only its first row counts. An action that the logging router never took earns nothing here, so what is
missing from the log can only lower what is promised.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.router.bundle import Bundle
from rheostat.training.guarantee import Bound, Certificate, certify_weighted
from rheostat.training.ope_log import LiveLog, held_out_path, picks_of
from rheostat.training.outcomes import Array, Rows
from rheostat.training.split import distinct

N_POLICIES = 40


class LiveGuarantee(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and the multiplier it is for, of all traffic and of each tier.

    Attributes:
        multiplier_usd: of the cheapest policy that passed, None where the target is infeasible.
        smallest_propensity: what bounds the weights; seen in the log where it was not given.
        rows: that were tested, one a question.
        tiers: by name; only where there is more than one.
    """

    certificate: Certificate
    multiplier_usd: float | None
    smallest_propensity: float
    rows: int
    tiers: dict[str, LiveGuarantee] = {}


def certify_live(
    log: LiveLog,
    bundle: Bundle,
    *,
    prices: Mapping[str, Price],
    target: float,
    delta: float = 0.1,
    smallest_propensity: float | None = None,
    bound: Bound = "betting",
) -> LiveGuarantee:
    """The cheapest multiplier of a bundle whose accuracy on the logged traffic meets the target with chance 1 - delta.

    Args:
        log: rows over the bundle's actions, in order of arrival.
        bundle: whose policies are tested, from the most accurate downward.
        prices: by model.
        target: accuracy to promise, in (0, 1).
        delta: chance allowed of promising too much, for each tier by itself.
        smallest_propensity: the least chance the logging router gave any action; that of the log when None, which is
            right for a router that explores with equal chances.
        bound: which test; `betting` is the tighter one.

    Raises:
        DatasetError: target, delta or the propensity do not fit.
    """
    seen = 1.0 / float(log.table.weight.max())
    least = seen if smallest_propensity is None else smallest_propensity
    if not 0 < least <= seen * (1 + 1e-9):
        raise DatasetError(f"the smallest propensity is {least:g}, the log has one of {seen:g}: give one in (0, {seen:g}]")
    multipliers = held_out_path(bundle, prices).multiplier
    multipliers = multipliers[np.linspace(0, len(multipliers) - 1, N_POLICIES).astype(int)]
    values = _weighted_rewards(log, bundle, prices, multipliers)

    def promise(rows: Rows) -> LiveGuarantee:
        rows = distinct(log.table.texts, rows)
        found = certify_weighted(values[rows], upper=np.full(len(multipliers), 1 / least), target=target, delta=delta, bound=bound)
        multiplier = None if found.index is None else float(multipliers[found.index])
        return LiveGuarantee(certificate=found, multiplier_usd=multiplier, smallest_propensity=least, rows=len(rows))

    names = np.array(log.tiers)
    whole = promise(np.arange(len(names)))
    if len(set(log.tiers)) < 2:
        return whole
    return msgspec.structs.replace(whole, tiers={name: promise(np.flatnonzero(names == name)) for name in sorted(set(log.tiers))})


def _weighted_rewards(log: LiveLog, bundle: Bundle, prices: Mapping[str, Price], multipliers: Array) -> Array:
    """(n, L) reward over propensity where the policy of a multiplier takes the logged action, else 0."""
    table, rows = log.table, np.arange(len(log.table))
    picks = picks_of(bundle, table, prices, multipliers)
    taken = table.weight.argmax(axis=1)
    earned = table.reward[rows, taken] * table.weight[rows, taken]
    return np.asarray(np.where(picks == taken[:, None], earned[:, None], 0.0))

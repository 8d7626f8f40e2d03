"""API keys: a bearer token in, whose request it is out. Keeps hashes only, and compares in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rheostat.data.errors import RequestError
from rheostat.serving.config import PASSTHROUGH_TIER, Config, KeyConfig
from rheostat.serving.limits import Allowance
from rheostat.serving.targets import Target

OPEN = KeyConfig(name="open", sha256="0" * 64)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request it is, what it may ask for, and what it may use."""

    name: str
    tenant: str
    tiers: tuple[str, ...]
    allowance: Allowance

    def may_ask(self, target: Target, *, forced: bool = False) -> bool:
        """Whether a target is among the key's tiers."""
        return not self.tiers or _tier(target, forced) in self.tiers

    def check(self, target: Target, *, forced: bool) -> None:
        """That a target is among the key's tiers; a forced action stands outside of tiers, as a named model does.

        Raises:
            RequestError: status 403.
        """
        if not self.may_ask(target, forced=forced):
            what = "rheostat.action" if forced else "model"
            asked = repr(target.tier) if target.tier is not None and not forced else f"{'an action' if forced else 'a model'} by name"
            raise RequestError(
                f"{what}: the key {self.name!r} may not ask for {asked}: its tiers are {', '.join(self.tiers)}",
                param=what,
                status=403,
                code="tier_not_allowed",
            )


def _tier(target: Target, forced: bool) -> str:
    return PASSTHROUGH_TIER if forced or target.tier is None else target.tier


class Keys:
    """The configured keys; with none, everyone is the tenant `default`. May be given others at any time."""

    def __init__(self, config: Config) -> None:
        self._allowances: dict[str, Allowance] = {}
        self._by_digest: list[tuple[bytes, Principal]] = []
        self._open: Principal | None = None
        self.replace(config)

    def replace(self, config: Config) -> None:
        """Take the keys and limits of another configuration; a key that stays keeps what it has used."""
        known = self._allowances
        self._allowances = {}
        for key in config.key or (OPEN,):
            limits = key.limits or config.limits
            self._allowances[key.name] = known.get(key.name) or Allowance(key.name, limits)
            self._allowances[key.name].limit(limits)
        self._by_digest = [(bytes.fromhex(key.sha256), self._principal(key)) for key in config.key]
        self._open = None if config.key else self._principal(OPEN)

    def principal(self, authorization: Sequence[str]) -> Principal:
        """Whose request this is, from all `Authorization` headers it carries.

        Raises:
            RequestError: status 401; no key, a wrong one, or more than one header.
        """
        if self._open is not None:
            return self._open
        scheme, _, token = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        digest = hashlib.sha256(token.strip().encode()).digest()
        # Every key is compared, so that the time taken does not tell which one matched.
        found = [principal for known, principal in self._by_digest if hmac.compare_digest(known, digest)]
        if scheme.lower() != "bearer" or not found:
            raise RequestError(
                "no valid API key: send `Authorization: Bearer KEY`", param="authorization", status=401, code="invalid_api_key"
            )
        return found[0]

    def principals(self) -> list[Principal]:
        """All of them, in the order of the configuration."""
        return [self._open] if self._open is not None else [principal for _, principal in self._by_digest]

    def spent_before(self, usd_by_tenant: Mapping[str, float]) -> None:
        """Go on from what was spent today before this process began.

        Records name the tenant and not the key, so every key goes on from all that its tenant has spent.
        """
        for principal in self.principals():
            principal.allowance.usd.settle(0, usd_by_tenant.get(principal.tenant, 0.0))

    def _principal(self, key: KeyConfig) -> Principal:
        return Principal(key.name, key.tenant, key.tiers, self._allowances[key.name])

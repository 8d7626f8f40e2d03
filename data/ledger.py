"""What a query spent, by kind of token, and what that costs. Knows no backend: it adds and prices."""

from __future__ import annotations

import msgspec

TOKENS_PER_PRICE_UNIT = 1_000_000


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """USD per million tokens of one model. Input 0 and output 1 make cost a count of generated tokens (in millionths)."""

    usd_per_1m_input: float = 0.0
    usd_per_1m_cached: float = 0.0
    usd_per_1m_output: float = 1.0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens booked for one query or one call.

    Generated tokens are in exactly one of `completion` (of calls whose text was used or could have been),
    `verifier` (of judges and critics) and `wasted` (of cancelled and failed calls). `cached_prompt` is the part of
    `prompt` that the engine had in its prefix cache, `reasoning` the part of `completion` that was thinking.
    """

    calls: int = 0
    prompt: int = 0
    cached_prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    verifier: int = 0
    wasted: int = 0

    @property
    def generated(self) -> int:
        """All tokens the engines generated for this query, whatever became of them."""
        return self.completion + self.verifier + self.wasted

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(
            calls=self.calls + other.calls,
            prompt=self.prompt + other.prompt,
            cached_prompt=self.cached_prompt + other.cached_prompt,
            completion=self.completion + other.completion,
            reasoning=self.reasoning + other.reasoning,
            verifier=self.verifier + other.verifier,
            wasted=self.wasted + other.wasted,
        )

    def cost_usd(self, price: Price) -> float:
        """Cost in USD at the price of the one model that spent these tokens."""
        return (
            (self.prompt - self.cached_prompt) * price.usd_per_1m_input
            + self.cached_prompt * price.usd_per_1m_cached
            + self.generated * price.usd_per_1m_output
        ) / TOKENS_PER_PRICE_UNIT

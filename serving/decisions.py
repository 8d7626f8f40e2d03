"""Makes the decision of a request: asks the router, and puts what it cannot know into the answer.

That is what the conversation had before, which models are up, and what form of answer the client fixed. Runs nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rheostat.data.schema import Action, Decision
from rheostat.router.ask import Ask
from rheostat.router.guidance import Guidance
from rheostat.serving.admitted import Admitted
from rheostat.serving.config import Config
from rheostat.serving.congestion import Congestion
from rheostat.serving.decider import Decider
from rheostat.serving.job import Job
from rheostat.serving.plain_call import in_form, passthrough_decision
from rheostat.serving.pool import Pools
from rheostat.serving.sessions import Sessions

REROUTED = "upstream_failed"
SESSION = "session"  # the rule of a decision that a conversation kept
NONE_FAILED: frozenset[str] = frozenset()


class Decisions:
    """Decides for admitted requests, and remembers for their conversations.

    Args:
        config: the models served, and the context of each.
        decider: holds the live controller.
        pools: the model servers, of which some are up.
        congestion: how dear load makes each model.
        sessions: what conversations keep.
    """

    def __init__(self, config: Config, *, decider: Decider, pools: Pools, congestion: Congestion, sessions: Sessions) -> None:
        self._config = config
        self._decider = decider
        self._pools = pools
        self._congestion = congestion
        self._sessions = sessions

    def apply(self, config: Config) -> None:
        """Decide under a changed configuration from the next request on."""
        self._config = config

    async def decide(self, admitted: Admitted, failed: frozenset[str] = NONE_FAILED) -> Decision:
        """The decision, without the models that `failed` this request already where others are up.

        Raises:
            InfeasibleError: the request is strict and nothing meets it.
            RequestError: the forced action is not known.
        """
        target, chat = admitted.target, admitted.chat
        if target.model is not None:
            return passthrough_decision(admitted, target.model, self._config, bundle=self._decider.version)
        ask = self._ask(admitted, failed)
        decision = await self._decider.decide(ask)
        if ask.forced is not None and chat.action is None:
            decision = msgspec.structs.replace(decision, rule=SESSION)
        decision = in_form(decision, chat, self._config)
        degraded = decision.degraded or (REROUTED if failed else None)
        return msgspec.structs.replace(
            decision, tenant=admitted.tenant, tier=target.tier or "", degraded=degraded, checked=admitted.terms.high_stakes
        )

    async def explain(self, admitted: Admitted) -> dict[str, Any]:
        """What the router sees in a request; nothing where the request leaves it nothing to choose."""
        return {} if admitted.target.model else await self._decider.explain(self._ask(admitted, NONE_FAILED))

    def follow(self, admitted: Admitted, decision: Decision) -> Guidance | None:
        """What the router knows beyond a decision just made."""
        ask = Ask(admitted.chat.query, tier=decision.tier, defaults=admitted.terms.defaults, scarcity=self._congestion.scarcity)
        return self._decider.follow(ask, decision)

    def has_another(self, admitted: Admitted, failed: frozenset[str]) -> bool:
        """Whether a model that has not failed the request yet is up, and the client left the choice open."""
        return admitted.target.tier is not None and admitted.chat.action is None and bool(self._available - failed)

    def keep(self, admitted: Admitted, job: Job) -> None:
        """Remember what the conversation was answered with, for its next turn."""
        chat, chosen = admitted.chat, job.chosen
        if admitted.target.tier is None or chosen is None:
            return
        self._sessions.keep(
            admitted.tenant,
            chat.model,
            chat.query.messages,
            chat.session,
            action=job.action,
            reply=chosen.text,
            call_ids=[call["id"] for call in chosen.tool_calls if call.get("id")],
        )

    def _ask(self, admitted: Admitted, failed: frozenset[str]) -> Ask:
        models = (self._available - failed) or frozenset(self._config.models)
        query, left = admitted.chat.query, admitted.terms.left
        return Ask(
            query if left.own is query.constraints else msgspec.structs.replace(query, constraints=left.own),
            tier=admitted.target.tier or "",
            defaults=left.defaults,
            models=models,
            forced=admitted.chat.action or self._kept(admitted, models),
            scarcity=self._congestion.scarcity,
        )

    def _kept(self, admitted: Admitted, models: frozenset[str]) -> Action | None:
        """The action this conversation had before, where its model can take it."""
        chat = admitted.chat
        kept = self._sessions.recall(admitted.tenant, chat.model, chat.query.messages, chat.session)
        return kept if kept is not None and kept.model in models else None

    @property
    def _available(self) -> frozenset[str]:
        return frozenset([model for model, pool in self._pools.items() if pool.is_available])

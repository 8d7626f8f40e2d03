"""The one place that holds the live controller: it may be swapped at any time, and may fail without failing a request.

Knows no HTTP and no backend. A decision in flight keeps the controller it began with.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any, cast

import msgspec

from rheostat.data.errors import InfeasibleError, RequestError
from rheostat.data.schema import Decision
from rheostat.router.ask import Ask, Decides
from rheostat.router.guidance import Guidance
from rheostat.serving.encoder_worker import DecidesUnread, EncoderWorker
from rheostat.serving.metrics import Metrics
from rheostat.serving.turn_reader import DecidesRead, TurnReader

NO_BUNDLE = "none"
log = logging.getLogger(__name__)


class Reading(Enum):
    """How a controller comes to read texts."""

    ALONE = "alone"
    """Each as it is decided on, or not at all."""
    TOGETHER = "together"
    """Those of one turn of the loop in one go; its controller is `DecidesRead`."""
    IN_THREAD = "in_thread"
    """By an encoder that takes milliseconds, and would hold up every other request; its controller is `DecidesUnread`."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """A controller and what it is made of."""

    controller: Decides
    version: str
    reading: Reading = Reading.ALONE


class Decider:
    """Decides with the current controller, and with the fallback when that one fails.

    Args:
        fallback: decides where there is no bundle, or its predictor fails.
        metrics: counts what fell back.
        encoder_deadline_s: for which a request waits for an encoder in a thread.
    """

    def __init__(self, fallback: Decides, *, metrics: Metrics, encoder_deadline_s: float = 0.015) -> None:
        self._reader = TurnReader()
        self._worker = EncoderWorker(deadline_s=encoder_deadline_s, on_late=metrics.encoder_late.inc)
        self._fallback = Serving(controller=fallback, version=NO_BUNDLE)
        self._metrics = metrics
        self._current = self._before = self._fallback
        metrics.serving(NO_BUNDLE)

    @property
    def version(self) -> str:
        """The bundle being served, `none` for the fallback."""
        return self._current.version

    def fall_back_to(self, fallback: Decides) -> None:
        """Take another controller for when there is no bundle, or its predictor fails."""
        before, self._fallback = self._fallback, Serving(controller=fallback, version=NO_BUNDLE)
        if self._current is before:
            self._current = self._fallback

    def swap(self, serving: Serving) -> None:
        """Serve another bundle from the next decision on."""
        self._before, self._current = self._current, serving
        self._metrics.serving(serving.version)

    async def decide(self, ask: Ask) -> Decision:
        """The decision for one request; degraded to the fallback action when the predictor fails.

        Raises:
            InfeasibleError: the request is strict and nothing meets it.
            RequestError: the forced action is not known.
        """
        serving = self._current
        try:
            return await self._decide(serving, ask)
        except RequestError:
            raise
        except InfeasibleError:
            # A promise that was asked for cannot be made; without one, any model that is up will do.
            if ask.query.constraints.strict or ask.defaults.strict:
                raise
            return msgspec.structs.replace(self._fallback.controller.decide(ask), degraded="no_model")
        except Exception:  # a model file can fail in any way, and a request must not fail with it
            log.exception("the predictor of bundle %s failed: falling back", serving.version)
            self._metrics.predictor_failures.inc()
        decision = self._fallback.controller.decide(ask)
        return msgspec.structs.replace(decision, degraded="predictor_failed")

    def follow(self, ask: Ask, decision: Decision) -> Guidance | None:
        """What the router knows beyond a decision just made: stop rules, and which action to run next; None where nothing.

        The bundle that decided is asked, also where it has just been swapped for another. The request goes on without an
        answer when the predictor fails.
        """
        serving = self._current if decision.bundle == self._current.version else self._before
        try:
            return serving.controller.follow(ask, decision)
        except Exception:  # as in `decide`
            log.exception("bundle %s could not guide a decision: going on without", serving.version)
            self._metrics.predictor_failures.inc()
            return None

    async def explain(self, ask: Ask) -> dict[str, Any]:
        """What the controller sees in a request; the fallback's view where `decide` falls back."""
        serving = self._current
        try:
            if serving.reading is Reading.IN_THREAD:
                return await self._worker.explain(serving.controller, ask)
            return serving.controller.explain(ask)
        except InfeasibleError:
            log.info("bundle %s fits no model that is up: the fallback explains", serving.version)
        except Exception:  # as in `decide`
            log.exception("bundle %s could not explain a decision: the fallback does", serving.version)
            self._metrics.predictor_failures.inc()
        return self._fallback.controller.explain(ask)

    async def _decide(self, serving: Serving, ask: Ask) -> Decision:
        if serving.reading is Reading.IN_THREAD:
            return await self._worker.decide(cast(DecidesUnread, serving.controller), ask)
        if serving.reading is Reading.TOGETHER:
            controller = cast(DecidesRead, serving.controller)
            return controller.decide(ask, await self._reader.read(controller, ask.query.text))
        return serving.controller.decide(ask)

"""What conversations keep: the action of their last turn, so that model and strategy do not change under a user.

A session is named by the client (`rheostat.session`), or recognised by a conversation that goes on from an answer given
here. A tool loop is recognised by the ids of its calls, and always kept: whoever asked for a tool reads its result.
Staying with one model also keeps the engine's prefix cache warm.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rheostat.data.schema import Action, message_text
from rheostat.serving.config import SessionsConfig

Message = dict[str, Any]
SEPARATOR = "\x1f"


class Sessions:
    """Remembers actions by tenant and conversation, for a while.

    Args:
        config: how long, how many, and whether conversations are recognised by their beginning.
        clock: monotonic seconds.
    """

    def __init__(self, config: SessionsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._kept: OrderedDict[str, tuple[Action, float]] = OrderedDict()

    def recall(self, tenant: str, model: str, messages: Sequence[Message], session: str | None) -> Action | None:
        """The action this conversation had in its last turn, if it is known.

        Args:
            tenant: whose conversation it is; another's is never seen.
            model: the `model` of the request: who asks for another tier wants another decision.
            messages: the conversation so far.
            session: the client's own name for it.
        """
        names = [*_tool_loop(messages), *self._named(session), *self._prefix(messages)]
        return next((action for name in names if (action := self._get(_key(tenant, model, name)))), None)

    def keep(
        self,
        tenant: str,
        model: str,
        messages: Sequence[Message],
        session: str | None,
        *,
        action: Action,
        reply: str,
        call_ids: Iterable[str],
    ) -> None:
        """Remember the action of a turn that was answered with `reply` and these tool calls; the rest as for `recall`."""
        said: Message = {"role": "assistant", "content": reply}
        names = [*map(_call_name, call_ids), *self._named(session), *self._prefix([*messages, said])]
        for name in names:
            self._put(_key(tenant, model, name), action)

    def _named(self, session: str | None) -> list[str]:
        return [] if session is None else [f"session{SEPARATOR}{session}"]

    def _prefix(self, messages: Sequence[Message]) -> list[str]:
        """The conversation up to its last answer; texts only, since clients send the rest of a message back as they please."""
        last = max((at for at, message in enumerate(messages) if message.get("role") == "assistant"), default=None)
        if last is None or not self._config.by_prefix:
            return []
        digest = hashlib.blake2b(digest_size=16)
        for message in messages[: last + 1]:
            digest.update(f"{message.get('role')}{SEPARATOR}{message_text(message)}{SEPARATOR}".encode())
        return [f"prefix{SEPARATOR}{digest.hexdigest()}"]

    def _get(self, key: str) -> Action | None:
        action, until_s = self._kept.get(key, (None, 0.0))
        return action if self._clock() < until_s else None

    def _put(self, key: str, action: Action) -> None:
        self._kept[key] = (action, self._clock() + self._config.ttl_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._config.max_sessions:
            self._kept.popitem(last=False)


def _tool_loop(messages: Sequence[Message]) -> Iterator[str]:
    """The ids of the calls whose results end the conversation."""
    for message in reversed(messages):
        if message.get("role") != "tool":
            return
        if message.get("tool_call_id"):
            yield _call_name(message["tool_call_id"])


def _call_name(call_id: str) -> str:
    return f"call{SEPARATOR}{call_id}"


def _key(tenant: str, model: str, name: str) -> str:
    return SEPARATOR.join((tenant, model, name))

"""A judgement on an earlier answer: a reward, a label or a correction, turned into a reward in [0, 1]."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from rheostat.data.answers import normal_reference, normalise
from rheostat.data.errors import RequestError
from rheostat.data.schema import AnswerKind
from rheostat.serving.decoding import decode

KINDS: tuple[AnswerKind, ...] = ("number", "choice", "yesno", "text")
SOURCE = "1 to 64 letters, digits and _ . -"
JUDGEMENTS = ("reward", "label", "correction")


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `/v1/feedback`: exactly one of reward, label and correction."""

    decision_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    reward: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    label: Literal["correct", "incorrect"] | None = None
    correction: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)] | None = None
    source: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description=SOURCE)] = "feedback"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/v1/feedback`."""

    decision_id: str
    reward: float
    source: str


_FEEDBACK = msgspec.json.Decoder(Feedback)


def parse_feedback(body: bytes) -> Feedback:
    """The feedback in a body.

    Raises:
        RequestError: status 400; `param` names the field.
    """
    feedback = decode(body, _FEEDBACK)
    given = [name for name in JUDGEMENTS if getattr(feedback, name) is not None]
    if len(given) != 1:
        raise RequestError(f"give exactly one of reward, label and correction, not {len(given)}", param=given[-1] if given else "reward")
    return feedback


def reward_of(feedback: Feedback, answer: str | None) -> float:
    """What the judgement is worth, in [0, 1]; a correction is compared with the answer that was given.

    Raises:
        RequestError: a correction of an answer that was not kept.
    """
    if feedback.reward is not None:
        return feedback.reward
    if feedback.label is not None:
        return 1.0 if feedback.label == "correct" else 0.0
    if answer is None:
        raise RequestError(
            "correction: the answer was not kept (see store_prompts) or not parsed: send a reward or a label", param="correction"
        )
    return float(_agrees(feedback.correction or "", answer))


def _agrees(correction: str, answer: str) -> bool:
    """Whether a correction says the same as an answer on record, which is normal in its own kind.

    Two texts are not the same for having one number or one letter in common, so only the correction is read as every kind.
    """
    text = normal_reference(correction, "text")
    is_same_text = text is not None and text == normalise(answer, "text")
    return is_same_text or answer in [normal_reference(correction, kind) for kind in KINDS]

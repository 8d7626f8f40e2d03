"""How a process reward model is shown an answer: the question, then every step with a mark behind it.

Training and serving must render alike to the last character, so both do it here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rheostat.data.problems.dialogues import STEP_BY_STEP


class StepFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The text round the steps; the model's score of a step is the one at the mark that follows it."""

    before: str
    after_question: str
    mark: str

    def render(self, question: str, steps: Sequence[str]) -> str:
        """The prompt for some steps, of which there may be more to come."""
        return f"{self.before}{question}{self.after_question}{''.join(step + self.mark for step in steps)}"


POCKET_FORMAT = StepFormat(before="<bos><user>", after_question=f" {STEP_BY_STEP}<assistant>", mark="<eos>")

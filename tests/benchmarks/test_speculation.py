"""The page of n-gram speculation says what was drawn and what doctor found."""

from __future__ import annotations

from benchmarks.speculation import Compared, Run, Verdict, section
from rheostat.policies.likeness import Drawn


def run(answer: str, right: float, *, samples: int, accepted: float | None) -> Run:
    return Run(drawn=[Drawn((answer,) * samples, right)] * 40, tokens=4000, seconds=2.0, accepted=accepted)


def test_a_profile_that_answers_otherwise_is_told_with_its_speed_and_doctors_refusal() -> None:
    greedy = Compared(temperature=0.0, plain=run("1", 1.0, samples=1, accepted=None), profile=run("1", 1.0, samples=1, accepted=0.5))
    sampled = Compared(temperature=0.8, plain=run("1", 1.0, samples=4, accepted=None), profile=run("2", 0.0, samples=4, accepted=0.004))
    page = section("it", [greedy, sampled], Verdict("fail", "not as the plain engine"), load=1.0)

    assert "| 0 | n-gram | 1.000 | +0.000" in page
    assert "| 0.8 | n-gram | 0.000 | -1.000" in page
    assert "| 0.001 | 2,000 | 0.4% |" in page
    assert "`rheostat doctor` refuses the profile: not as the plain engine." in page

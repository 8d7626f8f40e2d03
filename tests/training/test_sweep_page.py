"""The page of a sweep says what the rows say, and a choice among actions is judged on queries it was not made on."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger
from rheostat.training.sweep import Row
from rheostat.training.sweep_page import HEADING, section

VOTES = (1, 4, 16)
FAMILIES = ("easy", "middle", "hopeless")
CHANCES = {"easy": (0.95, 0.95, 0.95), "middle": (0.4, 0.6, 0.8), "hopeless": (0.05, 0.05, 0.05)}


def row(action: str, family: str, query: int, *, correct: float, tokens: int, price: float) -> Row:
    return Row(
        dataset=f"d/{family}", query_id=f"q{query}", query_text="?", level=1, action=action, correct=correct, answer="7",
        ledger=Ledger(calls=1, prompt=5, completion=tokens), cost_usd=price * tokens / 1e6, latency_s=0.5, stop_reason="complete",
        estimated=False,
    )  # fmt: skip


def rows(model: str = "small", price: float = 1.0, n: int = 80) -> list[Row]:
    """Votes that pay on the middle family only."""
    luck = np.random.default_rng(3).random((len(FAMILIES), n))
    found = []
    for at, family in enumerate(FAMILIES):
        for k, chance in zip(VOTES, CHANCES[family], strict=True):
            action = f"{model}/self_consistency(k={k})@{192 * k}"
            found += [row(action, family, i, correct=float(luck[at, i] < chance), tokens=10 * k, price=price) for i in range(n)]
        found += [
            row(f"{model}/cot@256", family, i, correct=float(luck[at, i] < CHANCES[family][0]), tokens=10, price=price) for i in range(n)
        ]
    return found


def cells(page: str, beginning: str) -> list[str]:
    """The cells of the first table line that begins so."""
    return next([cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith(f"| {beginning}"))


def test_the_page_tells_where_an_axis_pays_and_where_it_does_not() -> None:
    page = section(rows(), "python it")

    assert page.startswith(f"{HEADING}\n\nWritten by `python it`.")
    assert cells(page, "middle")[1].startswith("**+")
    assert not cells(page, "easy")[1].startswith("**")
    assert cells(page, "samples")[5] == "pays"
    assert cells(page, "`self_consistency(k=1)@192`")[3] == "-"


def test_the_page_names_the_families_on_which_nothing_pays() -> None:
    page = section(rows(), "python it")

    assert "Nothing clearly pays on easy, hopeless." in page
    assert cells(page.partition("Nothing clearly pays")[2], "middle")[4] == "pays"


def test_a_sweep_without_axes_has_no_empty_tables() -> None:
    page = section([each for each in rows() if "(k=1)" in each.action], "python it")

    assert "What more compute on one axis buys" not in page
    assert "Nothing clearly pays" not in page


def test_the_dearer_model_stands_behind_the_cheaper_one_at_equal_cost() -> None:
    page = section([*rows(), *rows("large", price=5.0)], "python it")

    assert "### small with more compute against large" in page
    # Four samples of the small model cost less than one of the large one, and are as good as four of that.
    assert float(cells(page, "50 ")[1]) > float(cells(page, "50 ")[2])


def test_actions_that_ask_another_model_or_the_reference_are_not_matched_and_those_that_ask_their_own_are() -> None:
    own, *unfair = "big-1.5/verify(checker=big-1.5)@256", "sm-0.5/verify(checker=big-1.5)@256", "sm-0.5/best_of_n(by=verifier,n=2)@256"
    right = [row(name, family, i, correct=1.0, tokens=10, price=1.0) for name in (own, *unfair) for family in FAMILIES for i in range(80)]
    last = section([*rows("sm-0.5"), *rows("big-1.5", price=5.0), *right], "python it").splitlines()[-1]
    _, small, large, _ = (cell.strip() for cell in last.strip("|").split("|"))

    assert float(small) < 0.9
    assert float(large) == 1.0


def test_models_that_share_too_few_queries_are_not_matched() -> None:
    assert "more compute against" not in section([*rows(), *rows("large", n=30)], "python it")


def test_an_empty_sweep_is_refused() -> None:
    with pytest.raises(DatasetError, match="no rows"):
        section([], "python it")

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.sentences import announced_lines, first_sentence, grid_rows, list_items, undotted_sentence

WORDS = st.sampled_from(["J.", "St.", "A", "The", "it", ".", " ", "  ", "\n", "5", "No.", "U.S.", "etc.", "!"])


@pytest.mark.parametrize(
    ("text", "sentence", "undotted"),
    [
        ("Paris. Because it is.", "Paris", "Paris"),
        ("St. Louis. It lies in Missouri.", "St. Louis", "St Louis"),
        ("J. K. Rowling", "J. K. Rowling", "J K Rowling"),
        ("Vitamin C. It is found in fruit.", "Vitamin C", "Vitamin C"),
        ("No. 5 and no. 6", "No. 5 and no. 6", "No 5 and no 6"),
        ("No. Five", "No", "No"),
        ("apples, pears etc. and nuts! Or", "apples, pears etc. and nuts", "apples, pears etc and nuts"),
        ("J.\nK. Rowling", "J", "J"),
        ("3.5 m", "3.5 m", "3.5 m"),
        ("", "", ""),
    ],
)
def test_a_sentence_ends_with_its_full_stop_and_not_with_that_of_a_name(text: str, sentence: str, undotted: str) -> None:
    assert (first_sentence(text), undotted_sentence(text)) == (sentence, undotted)


@given(st.lists(WORDS, max_size=20).map("".join))
def test_a_sentence_without_the_full_stops_of_names_is_its_own_first_sentence(text: str) -> None:
    once = undotted_sentence(text)
    assert undotted_sentence(once) == once
    assert undotted_sentence(once.casefold()) == once.casefold()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 2\n3 4", [["1", "2"], ["3", "4"]]),
        ("1, 2\n| 3 | -4.5 |\n\nDone", [["1", "2"], ["3", "-4.5"]]),
        ("a b\nc d.\nso it is", [["a", "b"], ["c", "d"]]),
        ("1 2\n3 4 5", [["1", "2"]]),
        ("New York\nThank you", []),
        ("1\n2", []),
        ("1 2", []),
    ],
)
def test_rows_of_a_grid_have_as_many_short_cells_each(text: str, rows: list[list[str]]) -> None:
    assert grid_rows(text) == rows


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("- a\n* b\n• c", ["a", "b", "c"]),
        ("1. a\n\n  2) b \n\nThen", ["a", "b "]),
        ("- a\nb\n- c", []),
        ("- a", []),
        ("-a\n-b", []),
        ("1990. a\n1991. b", []),
    ],
)
def test_items_of_a_list_begin_with_a_bullet_or_a_number(text: str, items: list[str]) -> None:
    assert list_items(text) == items


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\na\nb", ["a", "b"]),
        ("** \n\na\n b\n\nc", ["a", "b"]),
        (" a\nb", []),
        ("\na", []),
        ("\na\nIt is b.", []),
        ("\na\n" + "b" * 81, []),
        ("\n```py\na.\n\nb\n```\nc", ["a.", "b"]),
        ("```\na\n```", ["a"]),
        ("```\na", []),
        ("", []),
    ],
)
def test_lines_below_an_announcement_are_an_answer_where_they_are_fenced_or_no_sentences(text: str, lines: list[str]) -> None:
    assert announced_lines(text) == lines

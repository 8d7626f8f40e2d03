from __future__ import annotations

import random
import time
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rheostat.data.answers import as_reference, as_stated, extract, infer_kind, kind_of, normal_reference, normalise, number, same
from rheostat.data.problems import FAMILIES, LEVELS
from rheostat.data.schema import AnswerKind

KINDS: tuple[AnswerKind, ...] = ("number", "choice", "yesno", "text")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is 1,234.", "1234"),
        ("It costs $5 in total", "5"),
        ("3.50", "3.5"),
        ("2+3=5; 5*2=10. The answer is 10.", "10"),
        ("The answer is 3. No: the answer is 4.", "4"),
        ("The answer is 12 + 5 = 17.", "17"),
        ("The answer is 5. The answer is", "5"),
        ("The answer is -7.", "-7"),
        ("The answer is −7.", "-7"),
        ("10 - 3", "3"),
        ("50%", "50"),
        ("3/4", "0.75"),
        ("The answer is 3/4.", "0.75"),
        ("So it is 10/12. ", "5/6"),
        ("It is 3/4... or so", "0.75"),
        ("1/2/3", "2/3"),
        ("3/4.5", "4.5"),
        (r"\boxed{\frac{1}{3}}", "1/3"),
        (r"so the final answer is $\boxed{42}$.", "42"),
        ("#### 42", "42"),
        ("**Answer:** 42", "42"),
        ("The answer is:\n\n**42**", "42"),
        ("1e3", "1000"),
        (r"\boxed{1{,}000}", "1000"),
        (r"\boxed{1{,}234{,}567.5}", "1234567.5"),
        (r"\boxed{\frac{1{,}000}{3}}", "1000/3"),
        (r"\boxed{2\frac{1}{2}}", "2.5"),
        (r"The answer is $-2\,\dfrac{1}{3}$.", "-7/3"),
        (r"\boxed{10 \frac{3}{4}}", "10.75"),
        ("Step 2\n\\frac{3}{4}", "0.75"),
        ("The answer is –7.", "-7"),
        ("The answer is 3 – 5 = –2.", "-2"),
        ("from 3–5", "5"),
        (".5", "0.5"),
        ("-0.05", "-0.05"),
        ("3/0", None),
        ("", None),
        ("no number here", None),
    ],
)
def test_the_last_stated_number_is_the_answer(reply: str, answer: str | None) -> None:
    assert extract(reply, "number") == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is (C) 45.", "C"),
        ("**Answer:** **B**", "B"),
        ("b", "B"),
        ("(a)", "A"),
        ("B. because it is larger", "B"),
        ("I think it is B.", "B"),
        ("A train is fast, so D", "D"),
        ("The answer is a whale, option (C).", "C"),
        ("The answer is a whale: C", "C"),
        ("The answer is A because B is too small.", "A"),
        ("The answer is a, as all know.", "A"),
        ("The answer is A Paris", "A"),
        ("The answer is b since it is larger.", "B"),
        ("The answer is A\nbecause", "A"),
        ("Thus, A is the correct answer.", "A"),
        ("I choose D. A is the trap.", "D"),
        ("So A is the most likely.", "A"),
        ("It is B, since A is too large.", "B"),
        ("nothing", None),
    ],
)
def test_a_choice_is_read_as_its_letter(reply: str, answer: str | None) -> None:
    assert extract(reply, "choice") == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes, because no other number fits.", "yes"),
        ("It has no factors.", "no"),
        ("So no, it is not.", "no"),
        ("Not true.", "no"),
        ("The answer is not  false.", "yes"),
        ("That isn't true", "no"),
        ("That is not necessarily true.", "no"),
        ("It is no longer true.", "no"),
        ("No, wait. Yes.", "yes"),
        ("The answer is true.", "yes"),
        ("FALSE", "no"),
        ("Nothing known", None),
    ],
)
def test_true_and_false_count_as_yes_and_no(reply: str, answer: str | None) -> None:
    assert extract(reply, "yesno") == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("5+7=12; 9+0+0=9. The answer is 9:12.", "9:12"),
        ("The train arrives at: 09:05", "the train arrives at: 9:05"),
        ("Answer: 09:05", "9:05"),
        ("b d k", "b d k"),
        ("b, d, k", "b d k"),
        ("The answer is b d k.", "b d k"),
        ("Monday + 3: Thursday. The answer is **Thursday**.", "thursday"),
        ("The answer is Paris–Dakar.", "paris-dakar"),
        ("word " * 100, None),
    ],
)
def test_text_answers_keep_times_and_letters_apart(reply: str, answer: str | None) -> None:
    assert extract(reply, "text") == answer


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("St. Louis", "St. Petersburg"),
        ("Mr. Bennet", "Mr. Darcy"),
        ("J. Austen", "J. Joyce"),
        ("George H. W. Bush", "George H. Lewes"),
        ("No. 5", "No. 6"),
        ("Frazier vs. Ali", "Frazier vs. Foreman"),
        ("U.S. Steel", "U.S. Bank"),
        ("5 6\n9 9", "5 6\n7 8"),
        ("# . .\n. . x", "# . .\nx . ."),
    ],
)
def test_texts_are_not_compared_by_how_they_begin(a: str, b: str) -> None:
    assert not same(a, b, "text")
    assert same(a, a, "text")
    assert same(f"{a}.", a, "text")
    assert extract(f"So. The answer is {a}", "text") == normalise(a, "text")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is Paris. Because it is the capital.", "paris"),
        ("The answer is Paris\nBecause it is the capital.", "paris"),
        ("The answer is vitamin C. It is found in fruit.", "vitamin c"),
        ("The answer is b d k. Because b comes first.", "b d k"),
        ("The answer is St. Louis. It is in Missouri.", "st louis"),
        ("The answer is J. K. Rowling. She wrote it.", "j k rowling"),
        ("The answer is no. Because", "no"),
        ("The answer is:\n\n5 6\n9 9\n\nEach row was turned.", "5 6\n9 9"),
        ("5, 6\n9, 9.", "5 6\n9 9"),
        ("Turned:\n5 6\n9 9", "9 9"),
        ("The answer is New York\nThank you", "new york"),
    ],
)
def test_a_text_ends_with_its_sentence_or_its_grid(reply: str, answer: str) -> None:
    assert extract(reply, "text") == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is:\n- Apple\n- pear", "- apple\n- pear"),
        ("The answer is:\n1. Apple.\n\n2. Pear\n\nHope it helps", "- apple\n- pear"),
        ("**Answer:**\n\n* apple\n• pear\n3) fig", "- apple\n- pear\n- fig"),
        ("1. a\n2. b\n3. cc", "- a\n- b\n- cc"),
        ("1. 5, 6\n2. 7, 8", "- 5 6\n- 7 8"),
        ("Answer:\nNew York\nBoston", "- new york\n- boston"),
        ("Answer:\nNew York\nBoston\n\nThese are cities.", "- new york\n- boston"),
        ("Answer:\nParis\nIt is the capital.", "paris"),
        ("Answer:\nParis\nReason: the capital,", "paris"),
        ("Answer:\nParis\nConfidence: 95%", "paris"),
        ("**Answer:**\nParis\n**Confidence:** high", "paris"),
        ("Answer:\nParis\nIt is the capital of", "paris"),
        ("The answer is\n$$\nx+1\n$$", "x+1"),
        ("Answer:\n**Paris**\n---\nNotes", "paris"),
        ("<answer>\nAnswer:\nParis\n</answer>", "paris"),
        ("Answer:\nParis\n(in France)", "paris"),
        ("Answer:\n> Paris\n> Rome", "- > paris\n- > rome"),
        ("Answer:\nThe Hobbit\nOn the Road", "- the hobbit\n- on the road"),
        ("Answer:\nname: Ann\nage: 5", "- name: ann\n- age: 5"),
        ("Answer: Paris\nFrance", "paris"),
        ("The answer is:\n```\nIt is one.\nTwo\n```", "- it is one\n- two"),
        ("The answer is:\n```text\nParis\n```\nThanks", "paris"),
        ("The answer is:\n```\n5 6\n9 9\n```", "5 6\n9 9"),
        ("First I add.\n1. That is 5.\nIt is Paris", "it is paris"),
    ],
)
def test_a_list_is_an_answer_as_a_whole(reply: str, answer: str) -> None:
    assert extract(reply, "text") == answer
    assert normalise(answer, "text") == answer


@pytest.mark.parametrize(
    ("reference", "reply", "right"),
    [
        ("apple\npear", "Answer:\napple\npear", True),
        ("apple\n\npear\n", "The answer is:\n1. Apple\n2. Pear", True),
        ("- apple\n- pear", "Answer:\napple\npear", True),
        ("apple\npear", "Answer:\napple\nfig", False),
        ("apple\npear", "The answer is apple", False),
        ("apple", "The answer is:\n- apple\n- pear", False),
        ("Paris", "The answer is Paris\nIt is the capital", True),
        ("5 6\n7 8", "The answer is:\n5 6\n7 8", True),
    ],
)
def test_all_lines_of_a_reference_count(reference: str, reply: str, right: bool) -> None:
    assert (extract(reply, "text") == normal_reference(reference, "text")) is right


@pytest.mark.parametrize(
    ("reference", "reply", "right"),
    [
        ("apple\npear", "Answer: Apple\npear", True),
        ("apple\npear", "**Answer:** apple\npear\n\nThey are fruits.", True),
        ("apple\npear", "These are fruits.\n\napple\npear", True),
        ("apple\n\npear", "Answer: 1. apple\n2. pear", True),
        ("apple\npear", "Answer: apple\npear\nfig", False),
        ("apple\npear", "Answer: apple\nThis is a fruit.", False),
        ("apple\npear", "Answer: apple", False),
        ("apple\npear", "", False),
        ("apple", "Answer: apple\npear", False),
    ],
)
def test_a_reference_of_several_lines_shows_which_lines_of_a_reply_are_its_answer(reference: str, reply: str, right: bool) -> None:
    assert as_reference(reply, reference) == (normal_reference(reference, "text") if right else None)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is 1 3/4.", "1.75"),
        ("So it is 1 1/2 + 1/4 = 1 3/4 cups", "1.75"),
        ("-1 3/4", "-1.75"),
        ("The answer is 3 4/2", "3"),
        (r"\boxed{\frac12}", "0.5"),
        (r"\boxed{1.5 \times 10^{-3}}", "0.0015"),
        (r"\boxed{2\cdot10^3}", "2000"),
        ("It is 1.5 × 10^3 m", "1500"),
        (r"3 \times 10 = 30", "30"),
    ],
)
def test_mixed_numbers_and_powers_of_ten_are_read_whole(reply: str, answer: str) -> None:
    assert extract(reply, "number") == answer
    assert kind_of(answer, "How much?") == "number"


def test_a_reference_may_be_a_mixed_number() -> None:
    assert kind_of("1 3/4", "How much?") == "number"


def test_a_grid_may_be_longer_than_a_sentence() -> None:
    grid = "\n".join([" ".join("123456789")] * 40)
    assert extract(f"The answer is:\n{grid}", "text") == grid


@pytest.mark.parametrize(
    ("reply", "kind", "passage", "sentence"),
    [
        ("So **the answer is** Paris. Because", "text", "Paris. Because", "Paris"),
        ("The answer is St. Louis.", "text", "St. Louis.", "St. Louis"),
        ("First.\n\nMove A\nMove B", "text", "Move A\nMove B", "Move B"),
        (r"\boxed{AB}", "text", "AB", "AB"),
        ("The answer is 1,234 EUR.\nThe answer is", "number", "1,234 EUR.\nThe answer is", "1,234 EUR"),
        ("word " * 100, "text", ("word " * 100).strip(), ""),
    ],
)
def test_an_answer_can_be_had_as_it_was_stated(reply: str, kind: AnswerKind, passage: str, sentence: str) -> None:
    assert as_stated(reply, kind) == (passage, sentence)


TEXT_PIECES = st.sampled_from(
    [
        *'A.,| \n7\\$*`ß"\u00a0',
        "J.",
        "St.",
        "The",
        "it",
        "  ",
        "5 6",
        "- x",
        "No.",
        "U.S.",
        "\n- ",
        "\n2) ",
        "* ",
        "```",
        "Answer:\n",
        "1 3/4",
        "×10^3",
    ]
)


@settings(max_examples=500)
@given(st.lists(TEXT_PIECES, max_size=30).map("".join))
def test_a_text_with_names_and_grids_is_normal_after_one_reading(text: str) -> None:
    once = normalise(text, "text")
    assert once is None or normalise(once, "text") == once
    answer = extract(text, "text")
    assert answer is None or normalise(answer, "text") == answer


@given(st.sampled_from(KINDS), st.text(max_size=200))
@example("text", "\\\r0")
@example("text", "\\`,0")
@example("number", "\\\\,,7")
@example("number", "1{{{,}}}000")
@example("number", "2\\frac{1}{0}")
def test_normalising_twice_changes_nothing(kind: AnswerKind, text: str) -> None:
    once = normalise(text, kind)
    assert once is None or normalise(once, kind) == once


PIECES = st.sampled_from(
    ["The answer is ", "\\\\boxed{", "}", "####", "1", "23", "/", ".", ",", "e9", "-", "%", "$", "=", " ", "\\n", "(B)", "A ", "no", "x"]
)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.lists(PIECES, max_size=40).map("".join))
def test_an_extracted_answer_is_already_normal_whatever_the_reply(kind: AnswerKind, reply: str) -> None:
    answer = extract(reply, kind)
    assert answer is None or normalise(answer, kind) == answer
    infer_kind(reply)


@pytest.mark.parametrize("monster", ["1/" + str(2**13_000), "9" * 3_999, "0." + "3" * 3_900, "1e99/" + "7" * 390])
def test_a_monstrous_number_is_none_or_exact(monster: str) -> None:
    spelled = normalise(monster, "number")
    assert spelled is None or normalise(spelled, "number") == spelled


@given(st.fractions(max_denominator=10_000))
def test_a_number_survives_its_spelling_exactly(value: Fraction) -> None:
    spelled = normalise(str(value), "number")
    assert spelled is not None
    assert number(spelled) == value


@given(st.integers(min_value=0, max_value=10**12))
def test_thousands_separators_and_dollars_do_not_matter(value: int) -> None:
    assert same(f"${value:,}.00", str(value), "number")


@given(st.sampled_from(KINDS), st.text(max_size=40), st.text(max_size=40))
def test_sameness_is_symmetric(kind: AnswerKind, a: str, b: str) -> None:
    assert same(a, b, kind) == same(b, a, kind)


def test_what_cannot_be_parsed_equals_nothing() -> None:
    assert not same("none", "none", "number")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_built_in_answer_is_read_back_from_its_work(family: str) -> None:
    rng = random.Random(family)
    for level in LEVELS * 20:
        problem = FAMILIES[family](rng, level)
        for reply in (problem.answer, problem.work().text):
            read = extract(reply, problem.kind)
            assert read is not None
            assert same(read, problem.answer, problem.kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kind_is_inferred_for_every_built_in_question(family: str) -> None:
    rng = random.Random(family)
    for level in LEVELS * 20:
        problem = FAMILIES[family](rng, level)
        assert kind_of(problem.answer, problem.question) == problem.kind
        for instruction in ("", " Answer only.", " Think step by step."):
            assert infer_kind(problem.question + instruction) == problem.kind


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Is the sky blue?", "yesno"),
        ("Water is wet. True or false?", "yesno"),
        ("Which is best?\nA. one\nB. two", "choice"),
        ("What is the capital of France?", "text"),
        ("Who wrote Faust?", "text"),
        ("", "text"),
    ],
)
def test_the_kind_is_inferred_for_live_questions(question: str, kind: AnswerKind) -> None:
    assert infer_kind(question) == kind


@pytest.mark.parametrize(
    ("answer", "question", "kind"),
    [
        ("B", "Which? (A) 1 (B) 2", "choice"),
        ("B", "Which letter follows A?", "text"),
        ("True", "not ( True ) is", "yesno"),
        ("-9867630.0", "How much?", "number"),
        (r"\frac{1}{2}", "What part?", "number"),
        ("$12", "How much?", "number"),
        ("3 apples and a pear", "What is left?", "text"),
    ],
)
def test_a_reference_tells_its_own_kind(answer: str, question: str, kind: AnswerKind) -> None:
    assert kind_of(answer, question) == kind


UNITS = ["1", "1,", "a", "answer is ", "(", r"\boxed{", r"\frac{", r"1\frac{1}{1}", "{,}", "1/", " ", "=", "?", "yes ", "**", "\n", "A "]


@pytest.mark.parametrize(
    "unit",
    [
        *UNITS,
        "A. B",
        "St.  ",
        "5 6\n",
        "\n \n",
        "- a\n",
        "1. ",
        "1 1/1 ",
        "1×10^",
        "answer:\n```\n",
        "answer:\na\n",
        "not ",
        "a " * 9 + ":",
    ],
)
def test_a_hostile_megabyte_costs_little(unit: str) -> None:
    reply = unit * (1_000_000 // len(unit))
    started = time.process_time()
    for kind in KINDS:
        extract(reply, kind)
        normalise(reply, kind)
        as_stated(reply, kind)
    as_reference(reply, "a\n" * 2_000)
    infer_kind(reply)
    assert time.process_time() - started < 0.5  # a dozen calls and a wide margin for a busy machine


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is 10^6.", "1000000"),
        ("The answer is $2^{-3}$.", "0.125"),
        (r"\boxed{2^{10}}", "1024"),
        ("2 * 3^2 = 18", "18"),
        ("The area is 5 m^2", "5"),
        (r"The answer is \sqrt{16}.", "4"),
        ("√49", "7"),
        ("3\u00a0000", "3000"),
        ("It costs 1’234’567 francs", "1234567"),
        ("1'234.50", "1234.5"),
        ("1_000", "1000"),
        ("He is 5'11", "11"),
        ("2½", "2.5"),
        ("½", "0.5"),
        ("1 ¾ cups", "1.75"),
        ("⅔", "2/3"),
    ],
)
def test_powers_roots_groups_and_fraction_signs_are_worth_what_they_stand_for(reply, answer):
    assert extract(reply, "number") == answer


@pytest.mark.parametrize(
    ("reply", "kind", "answer"),
    [
        ("The answer is not 12, it is 14.", "number", "14"),
        ("The answer isn't 12 but 14", "number", "14"),
        ("It is 12, not 14.", "number", "12"),
        ("(13 - 8) * (5 - 3) = 10, not 24", "number", "10"),
        ("The correct option is B, not A.", "choice", "B"),
        ("The answer is not A. It's B", "choice", "B"),
        ("The answer is not option C. It is option D.", "choice", "D"),
        ("Not (A) but (B).", "choice", "B"),
        ("It is B rather than A", "choice", "B"),
        ("It is not A.", "choice", None),
    ],
)
def test_what_is_denied_is_no_answer(reply, kind, answer):
    assert extract(reply, kind) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("I don't think that is true.", "no"),
        ("I do not believe the statement is true", "no"),
        ("It is not the case that this is true", "no"),
        ("That cannot be true.", "no"),
        ("It can't be true.", "no"),
        ("That is never true.", "no"),
        ("I doubt that is true", "no"),
        ("This is far from true", "no"),
        ("I don't think it's false", "yes"),
        ("I don't know, but I think it's true", "yes"),
        ("I don't see why not: true", "yes"),
        ("Since whales do not lay eggs the statement is true", "yes"),
    ],
)
def test_an_opinion_is_denied_and_not_what_it_is_about(reply, answer):
    assert extract(reply, "yesno") == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("No. It is true that birds fly, but penguins do not.", "no"),
        ("Yes. It is not true that all birds fly.", "yes"),
        ("**No**, it's true only on Sundays", "no"),
        ("No, wait. Yes.", "yes"),
        ("Yes or no? It is false.", "no"),
    ],
)
def test_a_verdict_that_comes_first_is_not_undone_by_what_is_true_of_other_things(reply, answer):
    assert extract(reply, "yesno") == answer

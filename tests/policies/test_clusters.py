import pytest

from rheostat.data.schema import Action, Sampling
from rheostat.policies.base import Candidate
from rheostat.policies.clusters import Clusters
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from tests.policies import make

LONG = "The treaty was signed because both of the tired kingdoms wanted the trade routes over the mountains to be open again, "


def texts(*said):
    return [Candidate(index=at, model="m", text=text, answer=None, tokens=1) for at, text in enumerate(said)]


def answers(*said):
    return [each.answer for each in Clusters(make.embed).with_answers(texts(*said))]


def test_texts_of_the_same_meaning_are_one_answer():
    one, two = answers(LONG + "soon.", LONG + "soon!")
    assert one == two == LONG + "soon."


def test_other_numbers_and_negations_are_other_answers():
    assert len(set(answers(LONG + "in 1648.", LONG + "in 1684.", LONG + "not in 1648."))) == 3


def test_a_text_that_cannot_be_encoded_is_no_answer():
    assert answers(LONG + "\ud800", LONG) == [None, LONG.strip()]


def test_a_text_without_words_is_no_answer():
    assert answers("", "  \n") == [None, None]


def test_answers_that_were_read_are_left_alone():
    given = [make.candidate("sunday", 0), make.candidate("monday", 1)]
    assert Clusters(make.embed).with_answers(given) == given


async def test_free_texts_are_voted_on():
    model = FakeModel(default={LONG + "soon": 0.7, "Zzz, qqq, jjj, xxx, vvv, kkk, " * 4: 0.3}, tokens=(1, 2), say="{}".format)
    action = Action.parse("m/self_consistency(k=16)@9999")
    result = await run_action(action, make.question(), {"m": FakeBackend(model=model)}, kind="text", seed=1, toolbox=make.toolbox())
    answers = [each.answer for each in result.evidence.candidates]
    assert len(set(answers)) == 2
    assert result.answer.startswith("The treaty")
    assert result.evidence.why == f"{answers.count(result.answer)} of 16 votes"


@pytest.mark.parametrize(
    "extra", [{"response_format": {"type": "json_object"}}, {"tools": [{"type": "function", "function": {"name": "add"}}]}]
)
async def test_where_answers_are_data_an_apology_has_no_votes(extra):
    backend = FakeBackend(model=FakeModel(default={LONG + "sorry": 1.0}, tokens=(1, 2), say="{}".format))
    query = make.question(sampling=Sampling(extra=extra))
    result = await run_action(
        Action.parse("m/self_consistency(k=4)@999"), query, {"m": backend}, kind="text", seed=1, toolbox=make.toolbox()
    )
    assert result.text.strip().startswith("The treaty")
    assert [each.answer for each in result.evidence.candidates] == [None] * 4

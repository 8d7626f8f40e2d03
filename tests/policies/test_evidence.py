import random

from hypothesis import given
from hypothesis import strategies as st

from rheostat.policies.base import Completion
from rheostat.policies.evidence import candidate, count_answers, count_votes, elect, in_order, read_answer
from tests.policies import make

answers = st.lists(st.sampled_from(["1", "2", "3", None]), max_size=24)


@given(answers, st.randoms(use_true_random=False))
def test_the_order_of_completion_does_not_matter(given_answers, rng):
    ordered = make.candidates(given_answers)
    shuffled = rng.sample(ordered, len(ordered))
    assert count_votes(shuffled) == count_votes(ordered)
    assert in_order(shuffled) == ordered


@given(answers)
def test_votes_add_up(given_answers):
    votes = count_answers(given_answers)
    assert votes.drawn == len(given_answers)
    assert votes.counted == sum(answer is not None for answer in given_answers)
    assert votes.v1 >= votes.v2 >= 0
    assert votes.v1 + votes.v2 <= votes.counted
    assert 0.0 <= votes.agreement <= 1.0 - votes.unparsed_share + 1e-12
    assert votes.distinct == len(set(given_answers) - {None})


@given(answers)
def test_nobody_has_more_votes_than_the_leader_and_ties_go_to_the_earlier(given_answers):
    votes = count_answers(given_answers)
    for answer in set(given_answers) - {None, votes.leader}:
        assert given_answers.count(answer) <= votes.v1
        if given_answers.count(answer) == votes.v1:
            assert given_answers.index(votes.leader) < given_answers.index(answer)


def test_unparsed_candidates_never_win_though_they_are_most():
    votes = count_answers([None, None, None, "7"])
    assert (votes.leader, votes.v1, votes.agreement, votes.unparsed_share) == ("7", 1, 0.25, 0.75)


def test_no_candidates_have_no_leader():
    votes = count_answers([])
    assert (votes.leader, votes.margin, votes.agreement, votes.unparsed_share) == (None, 0, 0.0, 0.0)


def test_the_first_candidate_with_the_leading_answer_is_elected():
    assert elect(make.candidates([None, "2", "1", "1"])) == 2
    assert elect(make.candidates([None, None])) == 0


def test_a_completion_becomes_a_candidate_with_its_answer():
    found = candidate(
        Completion(index=0, text="3+4=7. The answer is 7.", completion_tokens=9, mean_logprob=-0.1), index=3, model="m", kind="number"
    )
    assert (found.index, found.answer, found.tokens, found.mean_logprob) == (3, "7", 9, -0.1)


def test_tool_calls_vote_by_name_and_arguments_whatever_their_ids_and_key_order():
    def answer(call_id, arguments):
        call = {"id": call_id, "type": "function", "function": {"name": "add", "arguments": arguments}}
        return read_answer(Completion(index=0, text="", completion_tokens=1, tool_calls=(call,)), "text")

    assert answer("a", '{"x": 1, "y": 2}') == answer("b", '{"y":2,"x":1}')
    assert answer("a", '{"x": 1}') != answer("a", '{"x": 2}')
    assert answer("a", "{broken") is None


@given(st.integers(0, 2**32))
def test_the_count_of_a_long_run_equals_the_naive_one(seed):
    rng = random.Random(seed)
    drawn = [str(rng.randrange(4)) for _ in range(50)]
    votes = count_answers(drawn)
    ranked = sorted(set(drawn), key=lambda a: (-drawn.count(a), drawn.index(a)))
    assert votes.leader == ranked[0]

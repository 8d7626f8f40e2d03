import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rheostat.data.errors import ActionError, UpstreamError
from rheostat.data.schema import Action
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from rheostat.policies.scoring import Scores, best, elect_weighted, merit, scorer_of
from tests.policies import make

scored = st.lists(st.tuples(st.sampled_from(["1", "2", None]), st.one_of(st.none(), st.floats(0.0, 1.0))), min_size=1, max_size=12).map(
    lambda drawn: [make.candidate(answer, at, score=score) for at, (answer, score) in enumerate(drawn)]
)


class Counting:
    """Scores by table and counts."""

    name = "orm"

    def __init__(self, table, failing=()):
        self.table, self.failing, self.asked = table, failing, []

    async def score(self, query, candidate, call):
        self.asked.append(candidate.answer)
        if candidate.answer in self.failing:
            raise UpstreamError("away", backend="orm")
        return self.table[candidate.answer]


class Grouping(Counting):
    """Scores all at once."""

    async def score_all(self, query, candidates, call):
        self.asked.append([each.answer for each in candidates])
        return tuple(self.table[each.answer] for each in candidates)


@given(scored)
def test_the_best_has_an_answer_if_any_has_and_nobody_answered_scores_higher(candidates):
    chosen = candidates[best(candidates, "orm")]
    if any(each.answer for each in candidates):
        assert chosen.answer is not None
        known = [each.score for each in candidates if each.answer is not None and each.score is not None]
        assert chosen.score == max(known, default=None)


@given(scored)
def test_the_weightiest_answer_is_elected_and_equal_weights_are_plain_votes(candidates):
    elected = candidates[elect_weighted(candidates, "orm")]
    assert (elected.answer is not None) == any(each.answer for each in candidates)
    alike = [make.candidate(each.answer, each.index) for each in candidates]
    counts = {answer: sum(each.answer == answer for each in alike) for answer in ("1", "2")}
    if counts["1"] != counts["2"]:
        assert alike[elect_weighted(alike, "orm")].answer == max(counts, key=counts.__getitem__)


async def test_new_answers_only_are_asked_for_and_failures_abstain():
    scorer = Counting({"1": 0.5, "2": 0.9}, failing=("3",))
    scores = Scores(make.question(), make.context(toolbox=make.toolbox(orm=scorer)), "orm")
    first = await scores.given(make.candidates(["1", None, "1", "3"]))
    assert [each.score for each in first] == [0.5, None, 0.5, None]
    assert [each.score for each in await scores.given(make.candidates(["2", "1"]))] == [0.9, 0.5]
    assert scorer.asked == ["1", "3", "2"]


async def test_a_group_is_scored_in_one_request():
    scorer = Grouping({"1": 0.5, "2": 0.9})
    scores = Scores(make.question(), make.context(toolbox=make.toolbox(orm=scorer)), "orm")
    found = await scores.given(make.candidates(["2", "1", "2"]))
    assert ([each.score for each in found], scorer.asked) == ([0.9, 0.5, 0.9], [["2", "1"]])


async def test_a_scorer_that_holds_candidates_against_one_another_sees_all_of_them_every_time():
    scorer = Grouping({"1": 0.5, "2": 0.9})
    scorer.sees_all = True
    scores = Scores(make.question(), make.context(toolbox=make.toolbox(orm=scorer)), "orm")
    await scores.given(make.candidates(["2", "1"]))
    found = await scores.given(make.candidates(["2", "1", "2"]))
    assert ([each.score for each in found], scorer.asked) == ([0.9, 0.5, 0.9], [["2", "1"], ["2", "1", "2"]])


def test_an_unknown_scorer_lists_those_there_are():
    with pytest.raises(ActionError, match="by=judge has no scorer to ask: pass one, or take one of logprob, prm, self"):
        scorer_of("judge", make.context(toolbox=make.toolbox()))


def test_a_log_probability_is_a_probability_per_token():
    assert merit(make.candidate("1", mean_logprob=0.0), "logprob") == 1.0
    assert merit(make.candidate("1", mean_logprob=float("nan")), "logprob") is None
    assert merit(make.candidate("1"), "logprob") is None


async def run(spelling, backends=None, **options):
    options = {"kind": "number", "seed": 1, "toolbox": make.toolbox(**options.pop("scorers", {}))} | options
    return await run_action(Action.parse(spelling), make.question(), backends or {"m": FakeBackend()}, **options)


async def test_best_of_n_stops_when_a_score_is_good_enough():
    backends = {"m": FakeBackend(model=FakeModel(default={"7": 0.5, "8": 0.5}))}
    result = await run("m/best_of_n(n=64,by=orm,enough=0.9,waves=2)@99999", backends, scorers={"orm": Counting({"7": 0.95, "8": 0.1})})
    assert (result.answer, result.stop_reason) == ("7", "good_enough")
    assert len(result.evidence.candidates) < 64


async def test_weights_overrule_a_majority():
    backends = {"m": FakeBackend(model=FakeModel(default={"7": 0.2, "8": 0.8}))}
    result = await run("m/weighted_vote(k=32,by=orm)@99999", backends, scorers={"orm": Counting({"7": 0.99, "8": 0.01})})
    assert result.answer == "7"


async def test_an_ensemble_draws_from_its_models_in_turn_and_survives_one_of_them():
    backends = {name: FakeBackend(name) for name in ("m", "n")}
    result = await run("m/weighted_vote(k=6,models=m+n)@9999", backends)
    assert [each.model for each in result.evidence.candidates] == ["m", "n"] * 3
    backends["n"] = FakeBackend("n", faults=["error"])
    result = await run("m/weighted_vote(k=6,models=m+n)@9999", backends)
    assert [(each.index, each.model) for each in result.evidence.candidates] == [(0, "m"), (2, "m"), (4, "m")]


class Reading:
    """Judges whole replies, as a verifier that runs programs does."""

    name, reads_reply = "tests", True

    def __init__(self):
        self.asked = []

    async def score(self, query, candidate, call):
        self.asked.append(candidate.text)
        return float("a + b" in candidate.text)


def replies(*said):
    """Texts, and what was read in them as an answer."""
    return tuple(replace(make.candidate(answer, at), text=text) for at, (text, answer) in enumerate(said))


async def test_a_scorer_that_reads_replies_is_asked_for_each_text_whatever_was_read_in_it():
    scorer = Reading()
    scores = Scores(make.question(), make.context(scorer=scorer), "verifier")
    programs = replies(("c = a - b; return c", "c"), ("c = a + b; return c", "c"), ("return a + b", None), ("c = a - b; return c", "c"))
    found = await scores.given(programs)
    assert [each.score for each in found] == [0.0, 1.0, 1.0, 0.0]
    assert len(scorer.asked) == 3


def test_a_reply_that_was_judged_may_win_without_an_answer():
    wrong, right, unknown = replies(("", "c"), ("", None), ("", None))
    candidates = [replace(wrong, score=0.0), replace(right, score=1.0), unknown]
    assert best(candidates, "verifier", reads_reply=True) == 1
    assert best(candidates, "verifier") == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strategy", ["best_of_n(n=16,by=verifier)", "compose(n=16,by=verifier)", "mcts(sims=16,by=verifier)"])
async def test_programs_are_picked_by_what_their_tests_say(strategy, seed):
    backends = {"m": FakeBackend(model=FakeModel(default={"7": 0.5, "": 0.5}))}

    class Unreadable(Reading):
        async def score(self, query, candidate, call):
            return float(candidate.answer is None)

    result = await run(f"m/{strategy}@99999", backends, scorer=Unreadable(), seed=seed)
    assert (result.candidate.answer, result.candidate.score, result.stop_reason) == (None, 1.0, "perfect")


@pytest.mark.parametrize(
    ("spelling", "sizes"),
    [
        ("best_of_n(n=8,by=orm)", [2]),
        ("best_of_n(n=8,by=orm,enough=0.5)", [2]),
        ("compose(n=8,by=orm)", [2]),
        ("best_of_n(n=8,by=orm,waves=3)", [3]),
        ("best_of_n(n=8)", [8]),
        ("self_consistency(k=8)", [8]),
    ],
)
async def test_where_a_score_may_end_the_drawing_not_all_is_drawn_at_once(spelling, sizes):
    backend = FakeBackend(model=FakeModel(default={"7": 1.0}))
    await run(f"m/{spelling}@9999", {"m": backend}, scorers={"orm": Counting({"7": 1.0})})
    assert [request.n for request in backend.requests] == sizes

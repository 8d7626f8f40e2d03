import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError
from rheostat.data.schema import Query
from rheostat.training.samplers import Sampler, jobs, sample_key

QUERY = Query.of_text("What is 2 + 2?", query_id="q1", dataset="d")


def test_spelling_gives_prompt_temperature_samples_and_a_default_cap():
    assert Sampler.parse("cot:0.8:32", "m") == Sampler(model="m", strategy="cot", temperature=0.8, k=32, max_tokens=192)
    assert Sampler.parse("direct:0:1:16", "m").max_tokens == 16


@pytest.mark.parametrize(
    "spelling", ["cot", "cot:x:1", "cot:0.8:0", "cot:3:1", "cot:0.8:1:0", "cot:0.8:1:2:3", "cot:0:2", "tree:0.8:1", ""]
)
def test_a_bad_spelling_is_refused_with_what_to_write(spelling):
    with pytest.raises(ConfigError, match=r"known are|write prompt|ask for 1"):
        Sampler.parse(spelling, "m")


def test_the_request_ends_in_the_instruction_and_asks_for_log_probabilities():
    request = Sampler.parse("cot:0.8:8", "m").request(QUERY, 4, 2, seed=0)
    assert request.messages[-1]["content"] == "What is 2 + 2? Think step by step."
    assert (request.n, request.logprobs, request.temperature) == (2, True, 0.8)


@given(st.integers(0, 31), st.integers(0, 31))
def test_sample_i_has_the_same_seed_however_calls_are_cut(start, offset):
    sampler = Sampler.parse("cot:0.8:64", "m")
    first, second = sampler.request(QUERY, start, 1, seed=3).seed, sampler.request(QUERY, start + offset, 1, seed=3).seed
    assert first is not None
    assert second == first + offset


def test_queries_do_not_share_seeds():
    other = Query.of_text("What is 2 + 3?", query_id="q2", dataset="d")
    sampler = Sampler.parse("cot:0.8:64", "m")
    assert abs(sampler.base_seed(QUERY, 0) - sampler.base_seed(other, 0)) > 64


@given(st.sets(st.integers(0, 19)), st.integers(1, 20))
def test_jobs_cover_exactly_the_missing_samples_once(have, chunk):
    sampler = Sampler.parse("cot:0.8:20", "m")
    made = list(jobs([QUERY], [sampler], {sample_key(QUERY, sampler, i) for i in have}, chunk=chunk))
    covered = [i for job in made for i in range(job.start, job.start + job.n)]
    assert covered == [i for i in range(20) if i not in have]
    assert all(job.n <= chunk for job in made)

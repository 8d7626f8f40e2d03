import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ActionError, DatasetError
from rheostat.data.schema import Action, Query
from rheostat.policies.base import Example
from rheostat.policies.fake import FakeBackend
from rheostat.policies.memory import TaskMemory
from rheostat.policies.run import run_action
from tests.policies import make

EXAMPLES = [
    Example(f"{word} {word}?", f"The answer is {at}.") for at, word in enumerate(["apples", "zebras", "quartz", "violin", "jigsaw"])
]


def memory(encoder_id="letters"):
    return TaskMemory(EXAMPLES, make.embed, encoder_id=encoder_id)


@given(st.sampled_from(EXAMPLES), st.integers(1, 9))
def test_the_nearest_come_in_the_memorys_order_and_never_the_question_itself(example, k):
    found = memory().nearest(example.question, k)
    places = [EXAMPLES.index(each) for each in found]
    assert places == sorted(places)
    assert len(found) == min(k, len(EXAMPLES) - 1)
    assert example not in found


def test_the_nearest_is_the_one_most_alike():
    assert memory().nearest("zebra zebra", 1) == (EXAMPLES[1],)


@pytest.mark.parametrize("encoder_id", ["letters", "another"])
def test_it_is_the_same_after_a_round_trip_whatever_the_encoder(tmp_path, encoder_id):
    memory().save(tmp_path / "memory")
    again = TaskMemory.load(tmp_path / "memory", make.embed, encoder_id=encoder_id)
    assert again.examples == memory().examples
    assert again.nearest("violins", 2) == memory().nearest("violins", 2)


def test_vectors_are_not_made_again_with_the_same_encoder(tmp_path):
    memory().save(tmp_path)

    def never(texts):
        raise AssertionError("no text to embed")

    assert TaskMemory.load(tmp_path, never, encoder_id="letters").examples == memory().examples


def test_what_is_no_memory_says_so(tmp_path):
    with pytest.raises(DatasetError, match="holds no task memory"):
        TaskMemory.load(tmp_path, make.embed, encoder_id="letters")
    memory().save(tmp_path)
    (tmp_path / "memory.json").write_text('{"encoder_id": "letters", "examples": [["a", "b"]]}')
    with pytest.raises(DatasetError, match="5 vectors for 1 examples"):
        TaskMemory.load(tmp_path, make.embed, encoder_id="letters")
    with pytest.raises(DatasetError, match="no examples"):
        TaskMemory([], make.embed, encoder_id="letters")


async def test_examples_stand_as_earlier_turns_behind_the_system_message():
    backend = FakeBackend()
    system = {"role": "system", "content": "Be brief."}
    query = Query(query_id="q", messages=(system, {"role": "user", "content": "What is 40+40?"}))
    await run_action(Action.parse("m/few_shot(k=2)@99"), query, {"m": backend}, kind="number", seed=1, toolbox=make.toolbox())
    roles = [message["role"] for message in backend.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert all(message["content"].endswith("step by step.") for message in backend.requests[0].messages if message["role"] == "user")


async def test_without_a_memory_it_says_how_to_get_one():
    with pytest.raises(ActionError, match="rheostat memory"):
        await run_action(Action.parse("m/few_shot@99"), make.question(), {"m": FakeBackend()}, kind="number", seed=1)

import copy

from hypothesis import given
from hypothesis import strategies as st

from rheostat.policies.prompts import answer_only, instruct, step_by_step

SYSTEM = {"role": "system", "content": "Be brief."}


def user(content):
    return {"role": "user", "content": content}


def test_the_sentences_are_those_the_pocket_models_were_trained_on():
    assert answer_only((user("2+2?"),)) == (user("2+2? Answer only."),)
    assert step_by_step((user("2+2?"),)) == (user("2+2? Think step by step."),)


def test_only_the_last_user_message_is_extended():
    messages = (SYSTEM, user("Hi"), {"role": "assistant", "content": "Hello"}, user("2+2?"), {"role": "tool", "content": "4"})
    extended = answer_only(messages)
    assert extended[3] == user("2+2? Answer only.")
    assert extended[:3] == messages[:3]
    assert extended[4] == messages[4]


def test_the_last_text_part_is_extended_and_images_stay():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    (message,) = answer_only((user([{"type": "text", "text": "What is it?"}, image]),))
    assert message["content"] == [{"type": "text", "text": "What is it? Answer only."}, image]


def test_parts_without_text_get_one():
    (message,) = answer_only((user([{"type": "image_url"}]),))
    assert message["content"][-1] == {"type": "text", "text": "Answer only."}


def test_a_conversation_without_a_user_is_left_alone():
    assert answer_only((SYSTEM,)) == (SYSTEM,)
    assert answer_only(()) == ()


def test_an_empty_or_missing_text_becomes_the_instruction():
    assert instruct((user(None),), "Go.") == (user("Go."),)
    assert instruct((user("  "),), "Go.") == (user("Go."),)


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text()})))
def test_the_given_messages_are_never_changed(messages):
    before = copy.deepcopy(messages)
    instruct(tuple(messages), "Go.")
    assert messages == before

"""What a conversation keeps, and for whom."""

from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.schema import Action
from rheostat.serving.config import SessionsConfig
from rheostat.serving.sessions import Sessions

ACTION = Action.parse("pocket/cot@256")
OTHER = Action.parse("pocket-large/direct@64")


def said(role, content, **fields):
    return {"role": role, "content": content, **fields}


FIRST = (said("user", "What is 2 plus 3?"),)
SECOND = (*FIRST, said("assistant", "5"), said("user", "And twice that?"))


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def keep(sessions, messages=FIRST, *, tenant="ann", model="auto", session=None, reply="5", call_ids=(), action=ACTION):
    sessions.keep(tenant, model, messages, session, action=action, reply=reply, call_ids=call_ids)


def test_a_named_session_keeps_its_action_for_its_tenant_and_tier_only():
    sessions = Sessions(SessionsConfig())
    keep(sessions, session="s1")
    assert sessions.recall("ann", "auto", SECOND, "s1") == ACTION
    assert sessions.recall("bob", "auto", SECOND, "s1") is None
    assert sessions.recall("ann", "auto:deep", SECOND, "s1") is None
    assert sessions.recall("ann", "auto", SECOND, "s2") is None
    assert sessions.recall("ann", "auto", SECOND, None) is None


def test_a_conversation_is_recognised_by_the_answer_it_goes_on_from_where_that_is_configured():
    for by_prefix, expected in ((True, ACTION), (False, None)):
        sessions = Sessions(SessionsConfig(by_prefix=by_prefix))
        keep(sessions)
        assert sessions.recall("ann", "auto", SECOND, None) == expected


def test_a_first_question_and_examples_in_the_prompt_are_no_conversation():
    sessions = Sessions(SessionsConfig(by_prefix=True))
    keep(sessions)
    examples = (said("user", "What is 1 plus 1?"), said("assistant", "2"), *FIRST)
    assert sessions.recall("ann", "auto", FIRST, None) is None
    assert sessions.recall("ann", "auto", examples, None) is None


def test_a_tool_loop_is_kept_always_and_by_the_ids_of_its_calls():
    sessions = Sessions(SessionsConfig())
    keep(sessions, call_ids=("c1", "c2"))
    loop = (*FIRST, said("assistant", None, tool_calls=[{"id": "c2"}]), said("tool", "12", tool_call_id="c2"))
    assert sessions.recall("ann", "auto", loop, None) == ACTION
    assert sessions.recall("bob", "auto", loop, None) is None
    assert sessions.recall("ann", "auto", (*loop, said("user", "Thanks")), None) is None


def test_the_tool_loop_goes_before_the_session():
    sessions = Sessions(SessionsConfig())
    keep(sessions, call_ids=("c1",), action=OTHER)
    keep(sessions, session="s1", action=ACTION)
    loop = (*FIRST, said("tool", "12", tool_call_id="c1"))
    assert sessions.recall("ann", "auto", loop, "s1") == OTHER


def test_a_quiet_session_is_forgotten_and_a_turn_keeps_it():
    clock = Clock()
    sessions = Sessions(SessionsConfig(ttl_s=10), clock)
    keep(sessions, session="s1")
    clock.now_s = 9
    keep(sessions, session="s1")
    clock.now_s = 18
    assert sessions.recall("ann", "auto", FIRST, "s1") == ACTION
    clock.now_s = 19
    assert sessions.recall("ann", "auto", FIRST, "s1") is None


@given(st.lists(st.integers(0, 30), max_size=100))
def test_no_more_sessions_are_remembered_than_configured_and_the_last_are(names):
    sessions = Sessions(SessionsConfig(max_sessions=5))
    for name in names:
        keep(sessions, session=str(name))
    last = list(dict.fromkeys(reversed(names)))
    known = [name for name in last if sessions.recall("ann", "auto", FIRST, str(name))]
    assert known == last[:5]


def test_parts_and_texts_are_the_same_conversation():
    sessions = Sessions(SessionsConfig(by_prefix=True))
    keep(sessions)
    parts = (said("user", [{"type": "text", "text": "What is 2 plus 3?"}]), said("assistant", "5"), said("user", "More?"))
    assert sessions.recall("ann", "auto", parts, None) == ACTION

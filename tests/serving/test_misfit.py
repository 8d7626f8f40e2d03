"""What does not fit is told with its place, what is there, and what may be there."""

import time
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError
from rheostat.serving.config import Config, parse
from rheostat.serving.misfit import Misfit, misfit

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'
NAME = Annotated[str, msgspec.Meta(pattern="^[a-z]+$", description="letters in lower case")]


class Inner(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table in a table."""

    name: NAME
    size: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class Outer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything that may stand in a body."""

    inner: Inner | None = None
    many: Annotated[list[Inner], msgspec.Meta(max_length=2)] | msgspec.UnsetType | None = msgspec.UNSET
    free: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    mode: Literal["full", "off"] = "full"
    stop: str | list[str] = ""
    sha256: Annotated[str, msgspec.Meta(min_length=64)] = "0" * 64
    count: int = 1
    flag: bool = True


@pytest.mark.parametrize(
    ("raw", "place", "wrong"),
    [
        ([], "", "a list does not fit: it must be an object"),
        ({"inner": 3}, "inner", "3 does not fit: it must be an object"),
        ({"inner": {}}, "inner.name", "is missing: give letters in lower case"),
        ({"inner": {"name": "A"}}, "inner.name", "'A' does not fit: it must be letters in lower case"),
        ({"inner": {"name": "a", "size": 0}}, "inner.size", "0 does not fit: it must be a number above 0 and at most 1"),
        ({"many": [{"name": "a"}, {"name": None}]}, "many[1].name", "null does not fit: it must be letters in lower case"),
        ({"many": [{"name": "a"}] * 3}, "many", "a list does not fit: it must be a list of objects with at most 2 items"),
        ({"many": {}}, "many", "an object does not fit: it must be a list of objects with at most 2 items"),
        ({"free": {"a": 1, "b": 0}}, "free.b", "0 does not fit: it must be a whole number of at least 1"),
        ({"mode": "ful"}, "mode", "'ful' does not fit: did you mean 'full'? it must be one of full, off"),
        ({"stop": [1]}, "stop[0]", "1 does not fit: it must be a text"),
        ({"stop": 1.5}, "stop", "1.5 does not fit: it must be a text or a list, each of which is a text"),
        ({"sha256": "my own key"}, "sha256", "what is there does not fit: it must be a text with at least 64 characters"),
        ({"count": True}, "count", "true does not fit: it must be a whole number"),
        ({"free": {"a": -(10**5_000)}}, "free.a", "a number that long does not fit: it must be a whole number of at least 1"),
        ({"flag": "yes"}, "flag", "'yes' does not fit: it must be true or false"),
        ({"flag": "9" * 10_000}, "flag", f"'{'9' * 56}... does not fit: it must be true or false"),
    ],
)  # fmt: skip
def test_the_place_is_told_with_what_is_there_and_what_may_be(raw, place, wrong):
    assert misfit(raw, Outer) == Misfit(place, wrong)


def test_a_name_that_nobody_knows_is_told_with_the_nearest_and_all_known_ones():
    found = misfit({"inner": {"name": "a", "sise": 1}}, Outer)
    assert found == Misfit("inner.sise", "did you mean 'size'? known are name, size", is_unknown=True)


def test_one_of_many_thousands_is_found_at_once():
    n = 50_000
    started = time.perf_counter()
    assert misfit({"stop": ["x"] * n + [1]}, Outer).place == f"stop[{n}]"
    assert misfit({"free": {str(number): 1 - number // n for number in range(n + 1)}}, Outer).place == f"free.{n}"
    assert time.perf_counter() - started < 0.5  # one by one they take more than that on a busy machine, and here a hundredth


@pytest.mark.parametrize("raw", [{}, {"inner": None}, {"stop": ["a"], "free": {"a": 2}}])
def test_what_fits_is_no_misfit(raw):
    assert misfit(raw, Outer) is None


def test_texts_of_headers_may_be_numbers():
    assert misfit({"count": "3", "flag": "true"}, Outer, strict=False) is None
    assert misfit({"count": "x"}, Outer, strict=False).place == "count"


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_does_not_fit_is_found_and_told_shortly(raw):
    found = misfit(raw, Outer)
    try:
        msgspec.convert(raw, Outer)
    except msgspec.ValidationError:
        assert found is not None
        assert len(found.wrong) < 250
    else:
        assert found is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]\n" + BACKEND, "unknown key servr: did you mean 'server'\\? known are backend"),
        (BACKEND + "urll = 1", "unknown key backend\\[0\\].urll: did you mean 'url'"),
        (BACKEND + "[tier.quick]\ntarget_acuracy = 0.5", "unknown key tier.quick.target_acuracy: did you mean 'target_accuracy'"),
        (BACKEND + "[tier.quick]\ntarget_accuracy = 2", "tier.quick.target_accuracy: 2 does not fit: it must be a number above 0"),
        (BACKEND + "[tier]\nquick = 3", "tier.quick: 3 does not fit: it must be a table"),
        ("backend = 3", "backend: 3 does not fit: it must be a list of tables"),
        ("[server]\nport = 1", "backend: is missing: give a list of tables"),
        (BACKEND + '[store]\nstore_prompts = "ful"', "store.store_prompts: 'ful' does not fit: did you mean 'full'\\?"),
        (BACKEND + '[[key]]\nname = "x"\nsha256 = "sk-secret"', "key\\[0\\].sha256: what is there does not fit: it must be 64 hex"),
    ],
)  # fmt: skip
def test_a_configuration_says_what_to_mend(text, message):
    with pytest.raises(ConfigError, match=f"^config: {message}"):
        parse(text)


@given(st.text(min_size=1, max_size=20).filter(lambda key: key not in Config.__struct_fields__))
def test_whatever_is_no_section_is_refused_and_all_sections_listed(key):
    assert misfit({key: {}}, Config).wrong.endswith(f"known are {', '.join(Config.__struct_fields__)}")

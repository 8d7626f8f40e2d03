"""A wrong key is told with its place and its neighbours, a wrong value with its place first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError
from rheostat.serving.config import Config, parse
from rheostat.serving.config_errors import check_keys, readable

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]\n" + BACKEND, "unknown key servr: did you mean 'server'\\? known are backend"),
        (BACKEND + "urll = 1", "unknown key backend\\[0\\].urll: did you mean 'url'"),
        (BACKEND + "[tier.quick]\ntarget_acuracy = 0.5", "unknown key tier.quick.target_acuracy: did you mean 'target_accuracy'"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@given(st.text(min_size=1, max_size=20).filter(lambda key: key not in Config.__struct_fields__))
def test_whatever_is_no_section_is_refused_and_all_sections_listed(key):
    with pytest.raises(ConfigError) as caught:
        check_keys({key: {}}, Config)
    assert str(caught.value).endswith(f"known are {', '.join(Config.__struct_fields__)}")


def test_the_place_comes_first():
    assert readable("Expected `int` - at `$.server.port`") == "server.port: Expected `int`"
    assert readable("no place") == "no place"

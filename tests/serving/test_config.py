import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError
from rheostat.serving import config

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


def test_smallest_file_has_the_three_tiers_and_hashes_prompts():
    read = config.parse(BACKEND)
    assert list(read.tier) == ["quick", "balanced", "deep"]
    assert read.store.store_prompts == "hash"
    assert read.tier["quick"].constraints.deadline_s == 10.0


def test_local_config_prices_the_large_model_five_times_the_small_one():
    prices = config.local(pocket_port=1, pocket_large_port=2).prices
    assert prices["pocket-large"].usd_per_1m_output == 5 * prices["pocket"].usd_per_1m_output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BACKEND + "[tier.quick]\ntarget_accuracy = 1.5",
            "tier.quick.target_accuracy: 1.5 does not fit: it must be a number above 0 and at most 1",
        ),
        (BACKEND + "[server]\nport = 70000", "server.port: "),
        (BACKEND + '[server]\nport = "x"', "server.port: "),
        ("", "backend"),
        ("= 3", "no TOML"),
        (BACKEND + "server = 3", "known are"),
    ],
)
def test_a_wrong_file_is_a_sentence_that_names_the_place(text, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(text)


def test_the_mark_that_some_editors_put_before_a_text_is_no_part_of_it(tmp_path):
    path = tmp_path / "rheostat.toml"
    path.write_text(BACKEND, encoding="utf-8-sig")
    assert config.load(path) == config.parse(BACKEND)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the config file"):
        config.load(tmp_path / "none.toml")


def test_a_file_is_read_as_its_text(tmp_path):
    (tmp_path / "r.toml").write_text(BACKEND)
    assert config.load(tmp_path / "r.toml") == config.parse(BACKEND)


def test_secrets_come_from_the_mapping_only():
    assert config.secret(None, {}) is None
    assert config.secret("KEY", {"KEY": "x"}) == "x"
    with pytest.raises(ConfigError, match="KEY named in the config is not set"):
        config.secret("KEY", {})


@given(st.text(max_size=40))
def test_no_text_raises_anything_but_a_config_error(text):
    with pytest.raises(ConfigError):
        config.parse(text)

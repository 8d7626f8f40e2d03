"""Sections of a configuration that do not fit together are refused, with what they do not fit."""

import pytest

from rheostat.data.errors import ConfigError
from rheostat.serving.config import parse

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'
HASH = "0" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backend = []", "no \\[\\[backend\\]\\]"),
        (BACKEND + BACKEND, "backend.name 'a' is given twice"),
        (BACKEND + BACKEND.replace('"a"', '"b"') + "usd_per_1m_output = 3", "another price"),
        (BACKEND + '[router]\ndefault_tier = "x"', "is no tier: known are quick"),
        (BACKEND + '[router]\nfallback = "x"', "is no action"),
        (BACKEND + '[router]\nfallback = "other/direct@64"', "names the model 'other'"),
        (BACKEND + 'profile_of = "pocket"', "is a profile of 'pocket': known models are none"),
        (BACKEND + f'[[key]]\nname = "k"\nsha256 = "{HASH}"\ntiers = ["fast"]', "key 'k' names the tier 'fast': known are quick"),
        (BACKEND + "".join(f'[[key]]\nname = "{name}"\nsha256 = "{HASH}"\n' for name in "kl"), "key.sha256 '0+' is given twice"),
        (
            BACKEND + "[tier.balanced]\ntarget_accuracy = 0.7\nconfidence = 0.9\nmean_cost_usd = 0.1\n",
            "tier.balanced has confidence 0.9 and mean_cost_usd 0.1",
        ),
        (BACKEND + '[judge]\nmodel = "other"', "judge.model 'other' is no backend's model: known are pocket"),
        (BACKEND + 2 * '[[reward]]\nname = "prm"\nurl = "http://127.0.0.1:2"\nmodel = "m"\n', "reward.name 'prm' is given twice"),
        (BACKEND + '[admin]\nport = 0\nhost = "0.0.0.0"', "is not loopback: set admin.token_env"),
        (BACKEND + "[admin]\nport = 8080", "admin.port and server.port are both 8080"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_an_admin_listener_with_a_token_may_leave_loopback():
    assert parse(BACKEND + '[admin]\nport = 0\nhost = "0.0.0.0"\ntoken_env = "TOKEN"').admin.port == 0

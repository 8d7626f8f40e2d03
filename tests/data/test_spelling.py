"""A word that is nearly known is told with the known one."""

import pytest

from rheostat.data.spelling import did_you_mean


@pytest.mark.parametrize(
    ("word", "said"),
    [("temprature", "did you mean 'temperature'? "), ("zzz", ""), ("", ""), ("temperature", "did you mean 'temperature'? ")],
)
def test_the_nearest_known_word_is_asked_for(word, said):
    assert did_you_mean(word, ("seed", "temperature")) == said


def test_of_no_known_words_none_is_near():
    assert did_you_mean("a", ()) == ""

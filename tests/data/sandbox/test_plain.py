from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.sandbox.plain import dumps, loads

atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False)
)
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(atoms, inner) | st.frozensets(atoms) | st.sets(atoms),
    max_leaves=12,
)


def typed(value: object) -> object:
    """The value with the type of every part, since 1 == True == 1.0."""
    if isinstance(value, dict):
        return [(typed(key), typed(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return (type(value), [typed(item) for item in value])
    return (type(value), value)


@given(values)
def test_a_plain_value_comes_over_with_its_types(value: object) -> None:
    assert typed(loads(dumps(value, lambda _: 0), lambda _: None)) == typed(value)


@given(values)
def test_a_value_is_one_line(value: object) -> None:
    assert "\n" not in dumps(value, lambda _: 0)


def test_what_is_not_plain_goes_over_as_a_number() -> None:
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    kept: list[object] = []
    line = dumps([1, Sly(2)], lambda value: kept.append(value) or 7)

    assert loads(line, lambda number: ("kept", number)) == [1, ("kept", 7)]
    assert type(kept[0]) is Sly


@pytest.mark.parametrize("line", ["[", '{"run": 1}', '{"list": [], "set": []}'])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        loads(line, lambda _: None)

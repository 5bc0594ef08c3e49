"""Grids as lists, ranges as numbers."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import sweeps
from regjax.errors import InputError
from regjax.sweeps import Range

values = st.lists(st.integers(), max_size=4)


@given(values, values, values)
def test_product_is_itertools_and_associative(a: list[int], b: list[int], c: list[int]) -> None:
    x, y, z = sweeps.over("a", a), sweeps.over("b", b), sweeps.over("c", c)
    whole = sweeps.product(x, y, z)
    assert [tuple(s.values()) for s in whole] == list(itertools.product(a, b, c))
    assert (
        sweeps.product(sweeps.product(x, y), z) == whole == sweeps.product(x, sweeps.product(y, z))
    )


def test_zip_is_strict_and_no_field_is_set_twice() -> None:
    with pytest.raises(InputError, match="sweeps of one length, these have 2 and 1"):
        sweeps.zip(sweeps.over("a", [1, 2]), sweeps.over("b", [1]))
    with pytest.raises(InputError, match="two sweeps set 'a'"):
        sweeps.product(sweeps.over("a", [1]), sweeps.over("a", [2]))


def test_sweeps_do_not_share_their_dicts() -> None:
    first = sweeps.over("a", [1])
    sweeps.chain(first)[0]["a"] = 2
    sweeps.product(first)[0]["a"] = 3
    assert first == [{"a": 1}]


@given(st.integers(0, 6), st.integers(0, 99))
def test_sample_draws_without_replacement(count: int, seed: int) -> None:
    whole = sweeps.over("a", range(6))
    drawn = sweeps.sample(whole, count, seed)
    numbers = [s["a"] for s in drawn]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == count
    assert drawn == sweeps.sample(whole, count, seed)


@given(st.floats(1e-6, 1e3), st.floats(1, 1e3), st.floats(0, 1), st.booleans(), st.booleans())
def test_a_range_stays_between_its_ends(
    low: float, factor: float, share: float, log: bool, integer: bool
) -> None:
    r: Range = Range(low, low * factor, log)
    if integer:
        r = Range(max(1, int(low)), max(1, int(low)) + int(factor), log, integer=True)
    r.check("x")
    assert r.low <= r.at(share) <= r.high
    assert r.at(0) == r.low
    assert r.at(share) <= r.at(min(1.0, share + 0.1))


def test_a_condition_on_a_tuple_is_met_by_its_list() -> None:
    """Settings have lists, as JSON has; a config has tuples."""
    for choices in ([(16,)], [[16]]):
        r = Range(0, 1, when={"model.widths": choices})
        assert r.applies({"model.widths": (16,)}) and r.applies({"model.widths": [16]})
        assert not r.applies({"model.widths": (8,)})


@pytest.mark.parametrize(
    ("r", "message"),
    [
        (Range(2, 1), "the smaller first"),
        (Range(0, 1, log=True), "on a log scale, which has no 0"),
        (Range(float("nan"), 1), "expected finite numbers"),
        (Range("a", 1), "expected two numbers"),  # pyright: ignore[reportArgumentType]
        (Range(0.5, 2, integer=True), "an end is none"),
        (Range(0, 1, when={"a": 3}), "`when`"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(r: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        r.check("penalty.strength")

"""Roles and the series that fit them: a matching, or what is missing or unclear about it."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.assign.matching import match


@pytest.mark.parametrize(
    ("fits", "bound", "missing", "unclear"),
    [
        ({"t1": "a", "t2": "b"}, {"t1": "a", "t2": "b"}, (), ()),
        ({"t1": "a", "t2": ""}, {"t1": "a"}, ("t2",), ()),
        ({"t1": "ab", "t1c": "b"}, {"t1": "a", "t1c": "b"}, (), ()),  # "*T1*" and "*T1*C*"
        ({"t1": "b", "t1c": "b"}, {"t1": "b"}, ("t1c",), ()),
        ({"t1": "bc", "t1c": "b"}, {"t1": "c", "t1c": "b"}, (), ()),
        ({"t1": "ab", "t2": "c"}, None, (), ("t1",)),
        ({"t1": "ab", "t1c": "ab"}, None, (), ("t1", "t1c")),
        ({"a": "12", "b": "23", "c": "3"}, {"a": "1", "b": "2", "c": "3"}, (), ()),
        ({"a": "12", "b": "23", "c": "34"}, None, (), ("a", "b", "c")),
    ],
)
def test_each_role_gets_one_series_or_it_is_said_why_not(fits, bound, missing, unclear):
    found = match({role: list(series) for role, series in fits.items()})
    assert (found.missing, found.unclear) == (missing, unclear)
    if bound is not None:
        assert found.bound == bound


FITS = st.dictionaries(
    st.sampled_from("pqrs"), st.lists(st.sampled_from("abcde"), unique=True, max_size=5), min_size=1
)


@given(FITS)
def test_it_is_what_trying_all_ways_would_find(fits):
    pool = [*"abcde", *[None] * len(fits)]
    ways = {
        way
        for way in permutations(pool, len(fits))
        if all(series is None or series in fits[role] for role, series in zip(fits, way, strict=True))
    }
    most = max(sum(series is not None for series in way) for way in ways)
    best = [way for way in ways if sum(series is not None for series in way) == most]
    found = match(fits)
    assert len(found.missing) == len(fits) - most
    assert tuple(found.bound.get(role) for role in fits) in best
    if not found.missing:
        choices = {role: {way[index] for way in best} for index, role in enumerate(fits)}
        assert found.unclear == tuple(role for role in fits if len(choices[role]) > 1)


@given(FITS, st.randoms())
def test_the_order_of_the_candidates_does_not_matter(fits, random):
    shuffled = {role: random.sample(series, len(series)) for role, series in fits.items()}
    assert match(fits) == match(shuffled)

"""Two worlds that differ only where a grant lets nobody look: no answer may tell them apart.

That holds against what no list of constructs names: values that filter, sort, count, group, find
a row, or make an error.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.path.making.dice import Drawn, Thrown
from tests.path.making.other_world import change, twin
from tests.path.making.requests import Author
from tests.path.second_reader import Asking, Outcome, ask, calls, dataverse, shown
from tests.path.test_two_readers import grants, rows

if TYPE_CHECKING:
    from app.policy.grants import Grant
    from tests.path.second_reader import Dataverse

LONG_RUN = 3000

_ID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@cache
def other_world() -> Dataverse:
    return twin()


@cache
def known_ids() -> frozenset[bytes]:
    world = dataverse()
    every = (row_id for table in world.app.store.schema for row_id in world.ids(table))
    return frozenset(row_id.lower().encode() for row_id in every)


def told(outcome: Outcome) -> tuple[str, int | None, bytes]:
    """What the caller learns; ids that were made for this answer count as one."""
    answer = outcome.answer
    if answer is None:
        return outcome.verdict, None, b""
    body = _ID.sub(lambda m: m[0] if m[0].lower() in known_ids() else b"new", answer.body)
    return outcome.verdict, answer.status, body


def tells_apart(asking: Asking, grant: Grant) -> str | None:
    """How the two answers differ, where they do."""
    here = ask(asking, grant)
    if not here.arrivals or calls(here) or _parts(asking):
        return None
    other = other_world()
    with other.undone():
        change(other, grant)
        there = ask(asking, grant, world=other)
    if told(here) == told(there):
        return None
    return f"{shown(here)}\n{shown(there)}"


def _parts(asking: Asking) -> bool:
    """Taking a row out of a collection tells whether it was in: that is what was asked."""
    return "DELETE" in asking.method + str(asking.body) and "ref" in asking.target + str(
        asking.body
    )


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_what_is_not_granted_makes_no_difference(data: st.DataObject) -> None:
    dice = Drawn(data)
    grant, known = dice.pick(grants())
    asking = Author(dice, rows(), known).request()
    difference = tells_apart(asking, grant)
    assert difference is None, (asking, difference)


def test_what_is_not_granted_makes_no_difference_over_and_over() -> None:
    made = grants()
    for seed in range(LONG_RUN):
        grant, known = made[seed % len(made)]
        asking = Author(Thrown(seed), rows(), known).request()
        difference = tells_apart(asking, grant)
        assert difference is None, (seed, asking, difference)

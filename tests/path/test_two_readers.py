"""Two readers of one request: whatever is asked, what is done lies inside what was judged.

The broker reads, judges and writes; the emulated Dataverse, which shares no code with it, reads
what was written, and notes what it touches.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import BrokerError, Unreadable
from app.path.judging import Judge
from tests.path.making.dice import Drawn, Thrown
from tests.path.making.grants import known_columns, made_up
from tests.path.making.mutations import mutated
from tests.path.making.requests import Author
from tests.path.making.spelling import respelt
from tests.path.second_reader import (
    KEYS,
    Asking,
    ask,
    beyond,
    dataverse,
    grant_of,
    judge_once,
    shown,
)

if TYPE_CHECKING:
    from app.policy.grants import Grant

HERE = Path(__file__).parent
ACCOUNT = "11111111-1111-1111-1111-111111111111"
JUDGE = Judge(lambda: KEYS)
"""One for all examples: what it remembers must change no answer."""

LONG_RUN = 8000

unhurried = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@cache
def rows() -> dict[str, list[str]]:
    """Ids that are there, by logical name."""
    world = dataverse()
    return {table.logical: world.ids(table)[:6] for table in world.app.store.schema}


@cache
def grants() -> tuple[tuple[Grant, dict[str, list[str]]], ...]:
    """Grants made up once, with the columns that each of them knows."""
    found = []
    for seed in range(48):
        rule = made_up(Thrown(seed))
        found.append((grant_of(rule, version=f"made up {seed}"), known_columns(rule)))
    return tuple(found)


def holds(asking: Asking, grant: Grant) -> None:
    """Only the broker's own errors; what is refused is not sent; what is sent was granted."""
    outcome = ask(asking, grant, judge=JUDGE)
    if outcome.judged is None:
        assert isinstance(outcome.error, BrokerError)
        assert outcome.arrivals == 0, (asking, shown(outcome))
    assert not beyond(outcome, grant), (beyond(outcome, grant), asking, shown(outcome))


@unhurried
@given(data=st.data())
def test_what_is_done_lies_inside_what_was_granted(data: st.DataObject) -> None:
    dice = Drawn(data)
    grant, known = dice.pick(grants())
    holds(Author(dice, rows(), known).request(), grant)


def test_what_is_done_lies_inside_what_was_granted_over_and_over() -> None:
    """Without hypothesis, which likes small requests: many, and some of them large."""
    made = grants()
    for seed in range(LONG_RUN):
        grant, known = made[seed % len(made)]
        holds(Author(Thrown(seed), rows(), known).request(), grant)


@unhurried
@given(data=st.data())
def test_the_same_request_in_other_letters_gets_the_same_decision(data: st.DataObject) -> None:
    dice = Drawn(data)
    grant, known = dice.pick(grants())
    asking = Author(dice, rows(), known).request()
    again = respelt(asking, dice)
    assert decided(asking, grant) == decided(again, grant), (asking, again)


def decided(asking: Asking, grant: Grant) -> object:
    """What was decided, and what would be sent; options keep no order."""
    try:
        judged = judge_once(JUDGE, grant, asking)
    except Unreadable:
        # Which of several mistakes is found first may differ.
        return "unreadable"
    except BrokerError as error:
        return error.code
    sent = judged.outgoing
    path, _, query = sent.target.partition("?")
    return sent.method, path, sorted(query.split("&")), sorted(sent.headers), sent.body


# ------------------------------------------------------------------- what was really sent


def real_requests() -> list[Asking]:
    """Two clients' own requests, their rows among those that are there."""
    found = []
    for line in (HERE / "traffic.jsonl").read_text(encoding="utf-8").splitlines():
        text = re.sub(r"accounts\([0-9a-f-]{36}\)", f"accounts({ACCOUNT})", line)
        one = json.loads(text)
        headers = tuple((n, v) for n, v in one["headers"])
        body = one.get("body")
        content = None if body is None else body.encode("utf-8")
        found.append(Asking(one["method"], one["target"], headers, content))
    return found


def policy_cases() -> list[Asking]:
    """The requests of the policy cases, whoever they were meant for."""
    found = []
    for file in sorted((HERE.parent / "policy_cases").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            _, root, target = case["target"].partition("/api/data/v9.2/")
            if not root or case.get("body_b64"):
                continue
            headers = case.get("headers") or {}
            pairs = headers.items() if isinstance(headers, dict) else headers
            kept = tuple((n, v) for n, v in pairs if n.isascii() and v.isascii())
            body = case.get("body")
            content = None if body is None else body.encode("utf-8")
            raw = target.encode("utf-8").decode("latin-1")
            found.append(Asking(case["method"], raw, kept, content))
    return found


SOURCES = {"clients": real_requests(), "cases": policy_cases()}


@pytest.mark.parametrize("source", SOURCES)
def test_requests_as_they_are_stay_inside_the_grant(source: str) -> None:
    made = grants()
    for number, asking in enumerate(SOURCES[source]):
        grant, _ = made[number % len(made)]
        holds(asking, grant)


@pytest.mark.parametrize("source", SOURCES)
@unhurried
@given(data=st.data())
def test_requests_gone_wrong_stay_inside_the_grant(source: str, data: st.DataObject) -> None:
    dice = Drawn(data)
    grant, _ = dice.pick(grants())
    holds(mutated(dice.pick(SOURCES[source]), dice), grant)

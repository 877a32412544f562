"""A clock is five minutes off, or jumps: tokens are had, used while they are valid, not after."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.sandbox.credentials import WITH_CERTIFICATE
from tests.faults.bad_days import day

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.bad_days import Day

FIVE = timedelta(minutes=5)
CALLERS = ("invoice-loader", "reporting")
"""One application has a secret, the other a certificate, whose assertion the broker dates."""


def asked_and_answered(begun: Day, callers: tuple[str, ...] = CALLERS) -> None:
    """Each gets an answer, and Dataverse took each token at once."""
    before = begun.sandbox.dataverse.journal.total
    for caller in callers:
        assert begun.ask(caller).status == 200
    assert begun.sandbox.dataverse.journal.total - before == len(callers)


@pytest.mark.parametrize("entra_ahead", [FIVE, -FIVE], ids=["late", "early"])
def test_a_broker_whose_clock_is_five_minutes_off_serves(
    tmp_path: Path, entra_ahead: timedelta
) -> None:
    """Against those of Entra and Dataverse, which agree."""
    with day(tmp_path, entra_ahead=entra_ahead) as begun:
        asked_and_answered(begun)
        begun.count_from_here()
        # Through the whole of a token's life, and over its end.
        for _ in range(8):
            begun.settle()
            begun.clock.pass_by(minutes=10)
            asked_and_answered(begun)
        assert 2 <= begun.token_requests <= 6


@pytest.mark.parametrize("jump", [FIVE, -FIVE], ids=["on", "back"])
def test_a_clock_that_jumps_by_five_minutes_costs_no_request(
    tmp_path: Path, jump: timedelta
) -> None:
    with day(tmp_path) as begun:
        asked_and_answered(begun)
        begun.clock.wall_ahead_s += jump.total_seconds()
        asked_and_answered(begun)
        begun.forget_tokens(WITH_CERTIFICATE)
        asked_and_answered(begun)
        begun.clock.wall_ahead_s = 0.0
        asked_and_answered(begun)


def test_a_clock_that_is_a_day_late_is_named_by_what_cannot_do_without(tmp_path: Path) -> None:
    """A secret is not dated. An assertion is, and tokens that are there go on being used."""
    with day(tmp_path) as begun:
        asked_and_answered(begun)
        begun.clock.wall_ahead_s -= timedelta(days=1).total_seconds()
        begun.clock.pass_by(minutes=16)  # MSAL uses an assertion again as long as it is good.
        asked_and_answered(begun)
        begun.forget_tokens()
        begun.forget_tokens(WITH_CERTIFICATE)
        asked_and_answered(begun, ("invoice-loader",))
        answer = begun.ask("reporting")
        assert answer.status == 503
        problem = answer.json()
        assert problem["aadsts"] == "AADSTS700024"
        assert problem["remedy"].startswith("Set this machine's clock")


def test_a_token_that_ends_while_the_clock_stood_back_is_not_used(tmp_path: Path) -> None:
    """The monotonic clock still knows how old it is."""
    with day(tmp_path) as begun:
        asked_and_answered(begun)
        begun.clock.wall_ahead_s -= timedelta(hours=3).total_seconds()
        begun.clock.pass_by(minutes=76)
        asked_and_answered(begun, ("invoice-loader",))

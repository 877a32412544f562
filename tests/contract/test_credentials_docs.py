"""docs/credentials.md shows configurations that load, and numbers that the program has."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.config.loading import load
from app.telemetry.metrics import Metrics
from app.tokens.cache import JITTER, PATIENCE_S, RENEW_AT
from app.tokens.lease import SAFETY_MARGIN
from app.tokens.retry import REFUSED
from app.tokens.service import REREAD_S
from app.tokens.status import ENDS_SOON, WARN_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "credentials.md").read_text(encoding="utf-8")


def shown() -> Iterator[str]:
    yield from re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", list(shown()))
def test_a_configuration_that_is_shown_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text(f"public_url: https://broker.internal.example\n{text}")
    assert list(load(file, offline=True).configuration.applications) == ["erp-invoices"]


def test_the_days_of_warnings_are_those_of_the_program() -> None:
    assert "30, 14, 7 and 1 days before, and at the end" in PAGE
    assert WARN_DAYS == (30, 14, 7, 1, 0)
    assert "with 14 days or less" in PAGE
    assert timedelta(days=14) == ENDS_SOON


def test_the_waits_are_those_of_the_program() -> None:
    assert "ten seconds at first, then up to five\nminutes apart" in PAGE
    assert (REFUSED.first_s, REFUSED.longest_s) == (10, 300)
    assert "a caller waits 15 s" in PAGE
    assert PATIENCE_S == 15
    assert REREAD_S == 300, "docs/decisions/050: every five minutes"


def test_the_outage_that_is_survived_follows_from_when_tokens_are_renewed() -> None:
    assert "renewed at half its life" in PAGE
    margin_min = SAFETY_MARGIN.total_seconds() / 60
    shortest_min = int(60 * (1 - RENEW_AT - JITTER) - margin_min)
    assert f"an outage of {shortest_min} minutes is survived whenever it comes" in PAGE
    # At a moment of chance a token of 75 minutes has this much left.
    assert 75 * (1 - (RENEW_AT + JITTER / 2) / 2) - margin_min > 50


def test_the_metric_has_its_name() -> None:
    assert "`broker_credential_expiry_seconds`" in PAGE
    metrics = Metrics(version="0")
    metrics.watch_credentials(lambda: ())
    assert b"broker_credential_expiry_seconds" in metrics.exposition()

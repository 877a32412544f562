from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from app.telemetry.logs import QUIET, configure, where_raised

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    before_it = structlog.get_config()
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", *QUIET)]
    before = [(x.handlers[:], x.level, x.propagate) for x in loggers]
    yield
    structlog.configure(**before_it)
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def configured(level: Any = "INFO") -> io.StringIO:
    output = io.StringIO()
    configure(level=level, form="json", stream=output)
    return output


def test_an_event_is_one_json_line_with_its_fields() -> None:
    output = configured()
    structlog.get_logger().info("token.renewed", application="erp", lifetime_s=3599)
    (line,) = lines(output)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "token.renewed",
        "level": "info",
        "application": "erp",
        "lifetime_s": 3599,
    }


def test_a_level_below_the_configured_one_is_not_written() -> None:
    output = configured("WARNING")
    structlog.get_logger().info("token.renewed")
    structlog.get_logger().warning("token.late")
    assert [line["event"] for line in lines(output)] == ["token.late"]


@pytest.mark.parametrize(
    ("logger", "level", "heard"),
    [
        ("httpx", logging.INFO, False),
        ("httpx2", logging.INFO, False),
        ("httpcore2.http11", logging.DEBUG, False),
        ("msal.application", logging.INFO, False),
        ("uvicorn.access", logging.INFO, False),
        ("uvicorn.error", logging.INFO, True),
        ("httpx", logging.WARNING, True),
        ("somebody", logging.INFO, False),
        ("somebody", logging.WARNING, True),
    ],
)
def test_other_peoples_logs_are_quiet_even_at_debug(logger: str, level: int, heard: bool) -> None:  # noqa: FBT001
    output = configured("DEBUG")
    logging.getLogger(logger).log(level, "GET https://contoso/accounts?$filter=%s", "hunter2")
    assert bool(output.getvalue()) is heard
    if heard:
        assert lines(output)[0]["logger"] == logger


def test_uvicorn_does_not_even_format_an_access_line() -> None:
    configured()
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_a_refused_websocket_upgrade_does_not_show_its_query() -> None:
    output = configured()
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" 403', "10.0.0.1:1", "/x?$filter=name eq 'hunter2'")
    uvicorn.info("connection rejected (403 Forbidden)")
    assert [line["event"] for line in lines(output)] == ["connection rejected (403 Forbidden)"]


def test_an_exception_leaves_its_place_but_not_its_message() -> None:
    output = configured()
    try:
        _stumble()
    except ValueError as failure:
        logging.getLogger("uvicorn.error").exception("Exception in", exc_info=failure)
        structlog.get_logger().exception("request.failed")
    foreign, own = lines(output)
    for line in (foreign, own):
        assert line["error"] == "ValueError"
        assert "_stumble" in " ".join(line["where"])
        assert "KeyError" in line["where"]
    assert "hunter2" not in output.getvalue()


def _stumble() -> None:
    try:
        dict[str, str]()["hunter2"]
    except KeyError as cause:
        raise ValueError("hunter2") from cause


def test_the_console_form_holds_no_message_of_an_exception_either() -> None:
    output = io.StringIO()
    configure(level="INFO", form="console", stream=output)
    try:
        _stumble()
    except ValueError:
        structlog.get_logger().exception("request.failed", request_id="0192")
    assert "request.failed" in output.getvalue()
    assert "0192" in output.getvalue()
    assert "hunter2" not in output.getvalue()


def test_causes_come_before_what_they_caused_and_long_chains_are_cut() -> None:
    failure: Exception = ValueError("0")
    for _ in range(20):
        outer = RuntimeError("x")
        outer.__cause__ = failure
        failure = outer
    assert where_raised(failure) == ["RuntimeError"] * 5

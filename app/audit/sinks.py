"""Where the record is watched from: stdout, a webhook, a collector of OpenTelemetry."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO, Final

import structlog

from app.audit.export import json_lines
from app.audit.forwarder import SinkFailed
from app.audit.http import Poster, address
from app.audit.otlp import OtlpSink, otlp_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.audit.chain import Entry
    from app.audit.forwarder import Sink

log = structlog.stdlib.get_logger(__name__)


def sinks_of(
    *, stdout: BinaryIO | None, webhook_url: str | None, environment: Mapping[str, str]
) -> list[Sink]:
    """Those that are asked for. `environment` has OpenTelemetry's own variables.

    Raises `Misconfigured` for a URL that is none.
    """
    sinks: list[Sink] = []
    if stdout is not None:
        sinks.append(LinesSink(stdout))
    if webhook_url is not None:
        sinks.append(WebhookSink(webhook_url))
    target = otlp_target(environment)
    if target is not None:
        if not _has_otel():
            # The same variables may be meant for other programs: no reason not to start.
            log.warning("audit.sink_missing", sink="otlp", extra="otel")
        else:
            sinks.append(OtlpSink(target))
    return sinks


def _has_otel() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


class LinesSink:
    """Each entry's body, a line of JSON: `phase` says whether it is a record or a checkpoint."""

    name: Final = "stdout"

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def send(self, entries: Sequence[Entry]) -> None:
        try:
            self._out.write(b"".join(entry.body + b"\n" for entry in entries))
            self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise SinkFailed(f"stdout cannot be written: {type(error).__name__}") from error

    def close(self) -> None:
        """It is not ours."""


class WebhookSink:
    """Posts the lines of an export: what was received can be verified as it is."""

    name: Final = "webhook"

    def __init__(self, url: str) -> None:
        self._url = address(url, "BROKER_AUDIT_WEBHOOK_URL")
        self._poster = Poster()

    def __repr__(self) -> str:
        return "WebhookSink(…)"

    def send(self, entries: Sequence[Entry]) -> None:
        body = b"".join(json_lines(entries))
        self._poster.post(self._url, body, {"Content-Type": "application/x-ndjson"})

    def close(self) -> None:
        self._poster.close()

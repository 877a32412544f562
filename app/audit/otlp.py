"""The record as OpenTelemetry's logs: OTLP over HTTP, as its variables say where.

The messages are OpenTelemetry's own (extra `otel`). Its SDK is not used to send them: it drops
what its queue cannot hold, and an audit may not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec
import structlog

from app.audit.http import Poster, address
from app.audit.record import decode, is_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import httpx2

    from app.audit.chain import Entry
    from app.audit.record import Record

log = structlog.stdlib.get_logger(__name__)

SERVICE: Final = "dataverse-token-broker"
SCOPE: Final = "dataverse-token-broker.audit"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INFO, _WARN, _ERROR = 9, 13, 17
_SEVERITY: Final = {
    "allowed": (_INFO, "INFO"),
    "refused": (_WARN, "WARN"),
    "error": (_ERROR, "ERROR"),
}
_ATTRIBUTES: Final = (
    *("action", "decision", "outcome", "reason", "caller", "client_address", "environment"),
    *("application", "method", "status", "upstream_status", "request_id", "duration_ms"),
)
"""Of a record's fields those that one looks for; the body has all of them."""


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Where to, as whom, and with which headers: these may hold a key."""

    url: httpx2.URL = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    resource: dict[str, str]


def otlp_target(environment: Mapping[str, str]) -> OtlpTarget | None:
    """As OpenTelemetry's environment variables say; None where they name no endpoint for logs.

    Raises `Misconfigured` for one that is no URL.
    """
    said = environment.get
    if said("OTEL_SDK_DISABLED", "").lower() == "true" or said("OTEL_LOGS_EXPORTER") == "none":
        return None
    endpoint = said("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "")
    if not endpoint and said("OTEL_EXPORTER_OTLP_ENDPOINT"):
        endpoint = said("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/") + "/v1/logs"
    if not endpoint:
        return None
    headers = said("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or said("OTEL_EXPORTER_OTLP_HEADERS", "")
    resource = {"service.name": SERVICE, **_pairs(said("OTEL_RESOURCE_ATTRIBUTES", ""))}
    if said("OTEL_SERVICE_NAME"):
        resource["service.name"] = said("OTEL_SERVICE_NAME", "")
    url = address(endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT")
    return OtlpTarget(url, _pairs(headers), resource)


def _pairs(text: str) -> dict[str, str]:
    """`key=value,key=value`, percent-encoded (W3C Baggage)."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in parts}


class OtlpSink:
    name: Final = "otlp"

    def __init__(self, target: OtlpTarget) -> None:
        self._target = target
        self._poster = Poster()

    def send(self, entries: Sequence[Entry]) -> None:
        headers = {**self._target.headers, "Content-Type": "application/x-protobuf"}
        message = _request(entries, self._target.resource, time.time_ns())
        answer = self._poster.post(self._target.url, message, headers)
        rejected = _rejected(answer)
        if rejected:
            # The specification: what a collector rejects of a batch must not be sent again.
            log.warning("audit.sink_rejected", sink=self.name, entries=rejected)

    def close(self) -> None:
        self._poster.close()


def _request(entries: Sequence[Entry], resource: Mapping[str, str], now_ns: int) -> bytes:
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415 - an extra

    request: Any = logs_service_pb2.ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    for key, value in resource.items():
        of_resource.resource.attributes.add(key=key).value.string_value = value
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name = SCOPE
    for entry in entries:
        _fill(of_scope.log_records.add(), entry, now_ns)
    message: bytes = request.SerializeToString()
    return message


def _fill(line: Any, entry: Entry, now_ns: int) -> None:
    line.observed_time_unix_nano = now_ns
    line.body.string_value = entry.body.decode("utf-8", "replace")
    severity, phase, moment = (_INFO, "INFO"), "", ""
    if is_record(entry.body):
        record = decode(entry.body)
        severity, phase, moment = _SEVERITY[record.decision], record.phase, record.time
        for key, value in _attributes(record):
            _set(line, key, value)
        if record.trace_id is not None and len(record.trace_id) == 32:
            line.trace_id = bytes.fromhex(record.trace_id)
    else:
        note = msgspec.json.decode(entry.body)
        phase, moment = note["phase"], note["time"]
    line.severity_number, line.severity_text = severity
    line.time_unix_nano = _nanoseconds(moment, now_ns)
    _set(line, "event.name", f"audit.{phase}")
    _set(line, "audit.writer", entry.writer)
    _set(line, "audit.seq", entry.seq)


def _attributes(record: Record) -> Iterator[tuple[str, Any]]:
    for name in _ATTRIBUTES:
        value = getattr(record, name)
        if value is not None:
            yield f"audit.{name}", value


def _set(line: Any, key: str, value: str | float) -> None:
    attribute = line.attributes.add(key=key).value
    if isinstance(value, str):
        attribute.string_value = value
    elif isinstance(value, int):
        attribute.int_value = value
    else:
        attribute.double_value = value


def _nanoseconds(moment: str, otherwise: int) -> int:
    try:
        return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, TypeError):
        return otherwise


def _rejected(answer: bytes) -> int:
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415 - an extra

    undecodable = import_module("google.protobuf.message").DecodeError
    response: Any = logs_service_pb2.ExportLogsServiceResponse()
    try:
        response.ParseFromString(answer)
    except undecodable:
        return 0
    rejected: int = response.partial_success.rejected_log_records
    return rejected

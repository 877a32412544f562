from __future__ import annotations

import contextlib
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from app.audit import chain, sinks
from app.audit.export import read_json_lines
from app.audit.forwarder import SinkFailed
from app.audit.otlp import OtlpSink, otlp_target
from app.audit.record import encode
from app.audit.sinks import LinesSink, WebhookSink, sinks_of
from app.audit.verify import verify
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.chain import Entry
    from app.audit.keys import CheckpointKeys, CheckpointSigner
    from app.audit.record import Record


class Listener:
    """What is posted to it, and the status and headers that it answers with."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.headers, self.body = 200, dict[str, str](), b""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.got.append((self.path, headers, body))
                self.send_response(listener.status)
                for name, value in listener.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(listener.body)))
                self.end_headers()
                self.wfile.write(listener.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def entries(record: Callable[..., Record], signer: CheckpointSigner) -> list[Entry]:
    """A whole chain: an opening, a record allowed, one refused, and a checkpoint."""
    first, head = chain.open_chain(
        writer="w", time="2026-10-14T12:00:00.000000Z", program="test", follows=()
    )
    records = [
        record(status=200, request_id="r-1", trace_id="4bf92f3577b34da6a3ce929d0e0e4736"),
        record(decision="refused", reason="not-granted", duration_ms=1.5),
    ]
    kept, head = chain.extend(head, map(encode, records))
    note = chain.checkpoint(head, time="2026-10-14T12:00:09.000000Z", signer=signer, final=True)
    return [first, *kept, *chain.extend(head, [chain.encode_note(note)])[0]]


# ---------------------------------------------------------------------------- lines


def test_lines_hold_each_entry_as_it_is(entries: list[Entry]) -> None:
    out = io.BytesIO()
    LinesSink(out).send(entries)
    assert out.getvalue().splitlines() == [entry.body for entry in entries]


def test_a_closed_stdout_is_a_failure_and_no_crash(entries: list[Entry]) -> None:
    out = io.BytesIO()
    out.close()
    with pytest.raises(SinkFailed, match="stdout cannot be written"):
        LinesSink(out).send(entries)


# -------------------------------------------------------------------------- webhook


@pytest.fixture
def webhook(listener: Listener) -> Iterator[WebhookSink]:
    with contextlib.closing(WebhookSink(f"http://u:hunter2@{listener.host}/in?key=1")) as sink:
        yield sink


def test_what_a_webhook_got_can_be_verified(
    listener: Listener, webhook: WebhookSink, entries: list[Entry], keys: CheckpointKeys
) -> None:
    webhook.send(entries[:2])
    webhook.send(entries[2:])
    path, headers, _ = listener.got[0]
    assert (path, headers["content-type"]) == ("/in?key=1", "application/x-ndjson")
    assert headers["authorization"].startswith("Basic ")
    lines = b"".join(body for _, _, body in listener.got).splitlines(keepends=True)
    stones, got = read_json_lines(lines)
    assert verify(got, keys=keys, tombstones=stones).good


@pytest.mark.parametrize("status", [500, 503, 404, 302])
def test_what_is_no_success_is_a_failure(
    listener: Listener, webhook: WebhookSink, entries: list[Entry], status: int
) -> None:
    listener.status = status
    listener.headers = {"retry-after": "7", "location": f"http://{listener.host}/elsewhere"}
    with pytest.raises(SinkFailed) as failed:
        webhook.send(entries)
    assert failed.value.detail == f"it answered with status {status}"
    assert failed.value.retry_after_s == 7
    assert len(listener.got) == 1


def test_a_failure_does_not_tell_the_address(entries: list[Entry]) -> None:
    sink = WebhookSink("http://u:hunter2@127.0.0.1:1/in?key=hunter2")
    with pytest.raises(SinkFailed, match="cannot be reached") as failed:
        sink.send(entries)
    sink.close()
    assert "hunter2" not in f"{failed.value.detail} {sink!r}"


def test_an_endless_answer_is_not_read_to_its_end(
    listener: Listener, webhook: WebhookSink, entries: list[Entry]
) -> None:
    listener.body = b"x" * 1_000_000
    webhook.send(entries)
    assert len(listener.got) == 1


@pytest.mark.parametrize("url", ["", "ftp://x/y", "hooks.internal/x", "https://", "https://x:port"])
def test_a_url_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(Misconfigured, match="BROKER_AUDIT_WEBHOOK_URL"):
        WebhookSink(url)
    with pytest.raises(Misconfigured, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        otlp_target({"OTEL_EXPORTER_OTLP_ENDPOINT": url or "/"})


# ---------------------------------------------------------------------------- OTLP


def test_entries_become_log_records(listener: Listener, entries: list[Entry]) -> None:
    service = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
    target = otlp_target(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{listener.host}/",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
            "OTEL_SERVICE_NAME": "broker",
        }
    )
    assert target is not None
    with contextlib.closing(OtlpSink(target)) as sink:
        sink.send(entries)
    [(path, headers, body)] = listener.got
    assert (path, headers["api-key"]) == ("/v1/logs", "a b")
    assert headers["content-type"] == "application/x-protobuf"
    request = service.ExportLogsServiceRequest.FromString(body)
    [of_resource] = request.resource_logs
    resource = {a.key: a.value.string_value for a in of_resource.resource.attributes}
    assert resource == {"service.name": "broker", "deployment.environment": "test"}
    [of_scope] = of_resource.scope_logs
    lines = of_scope.log_records
    assert [line.body.string_value.encode() for line in lines] == [e.body for e in entries]
    assert [line.severity_text for line in lines] == ["INFO", "INFO", "WARN", "INFO"]
    attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in lines[1].attributes}
    assert attributes["event.name"] == "audit.outcome"
    assert (attributes["audit.status"], attributes["audit.request_id"]) == (200, "r-1")
    assert (attributes["audit.writer"], attributes["audit.seq"]) == ("w", 2)
    assert lines[1].trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert lines[1].time_unix_nano == 1_791_979_200 * 10**9


def test_what_a_collector_rejects_is_told(listener: Listener, entries: list[Entry]) -> None:
    service = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
    answer = service.ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    listener.body = answer.SerializeToString()
    target = otlp_target({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://{listener.host}/logs"})
    assert target is not None
    with (
        structlog.testing.capture_logs() as lines,
        contextlib.closing(OtlpSink(target)) as sink,
    ):
        sink.send(entries)
    assert [(line["event"], line["entries"]) for line in lines] == [("audit.sink_rejected", 2)]
    assert listener.got[0][0] == "/logs"


def test_headers_for_a_collector_are_not_shown() -> None:
    target = otlp_target(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:hunter2@collector",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hunter2",
        }
    )
    assert "hunter2" not in repr(target)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_LOGS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"},
    ],
    ids=["nothing", "traces only", "no logs", "switched off"],
)
def test_no_collector_is_asked_for(environment: dict[str, str]) -> None:
    assert sinks_of(stdout=None, webhook_url=None, environment=environment) == []


def test_the_sinks_are_those_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}

    def found(environment: dict[str, str]) -> list[str]:
        made = sinks_of(
            stdout=io.BytesIO(), webhook_url="https://hooks.internal/x", environment=environment
        )
        return [sink.name for sink in made]

    monkeypatch.setattr(sinks, "find_spec", lambda _: object())
    assert found(asked) == ["stdout", "webhook", "otlp"]
    assert found({}) == ["stdout", "webhook"]
    monkeypatch.setattr(sinks, "find_spec", lambda _: None)
    with structlog.testing.capture_logs() as lines:
        assert found(asked) == ["stdout", "webhook"]
    assert [line["event"] for line in lines] == ["audit.sink_missing"]

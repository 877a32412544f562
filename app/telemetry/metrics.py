"""What Prometheus sees of this process. `docs/metrics.md` lists every name; a test compares.

Labels are bounded: actions, decisions, statuses, codes and configured names, never anything
that a caller sends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.telemetry.shares import Shares
from app.telemetry.tallies import Durations, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from prometheus_client.metrics_core import Metric

    from app.telemetry.shares import ShareState

Action = Literal["proxy", "token", "admin"]
Decision = Literal["allowed", "refused", "error"]
TokenOutcome = Literal["issued", "refused", "unreachable"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    120.0,
)
"""From the broker's own share of a request (half a millisecond) to Dataverse's two minutes."""


class AuditState(NamedTuple):
    """How far the writer is."""

    records_total: int
    """Made durable since the process started."""
    failures_total: int
    """Records lost to a store that failed, since the process started."""
    lag_seconds: float
    """How long the oldest record has been waiting for its flush; 0 where none waits."""


class ConfigurationState(NamedTuple):
    loaded_at: datetime | None
    """When the configuration in use was loaded; None before the first one."""
    degraded: bool
    """Whether a newer one did not load, so that the last good one is in use."""


class CredentialExpiry(NamedTuple):
    application: str
    kind: str
    """certificate, client_secret, …"""
    credential: str
    """Its thumbprint or the id that the operator knows it by."""
    expires: datetime


class IdentityUse(NamedTuple):
    caller: str
    identity: str
    last_used: datetime | None
    expires: datetime | None


class Metrics:
    """One set of counters for each process, in a registry of its own."""

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.in_flight = 0
        """Counted by the dispatcher: one thread, so a plain number is enough."""
        self._requests = Tally(
            "broker_requests",
            "Requests answered, by what they were for and what became of them.",
            ("action", "decision", "status"),
        )
        self._seconds = Durations(
            "broker_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            _SECONDS,
            "action",
        )
        self._refusals = Tally(
            "broker_refusals",
            "Requests that the broker did not let through, by error code.",
            ("code",),
        )
        self._upstream = Tally(
            "broker_upstream_requests",
            "Requests sent to Dataverse, by the status that came back; 0 where none came.",
            ("status",),
        )
        self._upstream_seconds = Durations(
            "broker_upstream_duration_seconds",
            "From sending a request to Dataverse to the head of its answer.",
            _SECONDS,
        )
        self._token_requests = Tally(
            "broker_token_requests",
            "Requests to Entra for a token, by application and outcome.",
            ("application", "outcome"),
        )
        self._token_lookups = Tally(
            "broker_token_cache_lookups",
            "Tokens looked for in the cache.",
            ("result",),
            told_at_once=(("hit",), ("miss",)),
        )
        for told in (
            self._requests,
            self._seconds,
            self._refusals,
            self._upstream,
            self._upstream_seconds,
            self._token_requests,
            self._token_lookups,
        ):
            self.registry.register(told)
        in_flight = Gauge(
            "broker_requests_in_flight",
            "Requests that are being answered at this moment.",
            registry=self.registry,
        )
        in_flight.set_function(lambda: self.in_flight)
        build = Gauge(
            "broker_build_info", "Always 1; the version is in the label.", ("version",),
            registry=self.registry,
        )  # fmt: skip
        build.labels(version).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    # ------------------------------------------------- told as it happens

    def request(self, action: Action, decision: Decision, status: int, seconds: float) -> None:
        self._requests.add((action, decision, status))
        self._seconds.add(seconds, action)

    def refusal(self, code: str) -> None:
        self._refusals.add((code,))

    def upstream(self, status: int, seconds: float) -> None:
        """`status` is 0 where no answer came."""
        self._upstream.add((status,))
        self._upstream_seconds.add(seconds)

    def token_request(self, application: str, outcome: TokenOutcome) -> None:
        self._token_requests.add((application, outcome))

    def token_cache(self, *, hit: bool) -> None:
        self._token_lookups.add(("hit" if hit else "miss",))

    # ------------------------------------------------ asked at each scrape

    def watch_audit(self, audit: Callable[[], AuditState]) -> None:
        self.registry.register(_Audit(audit))

    def watch_sinks(self, lags: Callable[[], Iterable[tuple[str, int, float]]]) -> None:
        """`lags` gives name, records and seconds of each sink that this process feeds."""
        self.registry.register(_Sinks(lags))

    def watch_configuration(self, configuration: Callable[[], ConfigurationState]) -> None:
        self.registry.register(_Configuration(configuration))

    def watch_credentials(self, credentials: Callable[[], Iterable[CredentialExpiry]]) -> None:
        self.registry.register(_Credentials(credentials))

    def watch_shares(self, states: Callable[[], Iterable[ShareState]]) -> None:
        self.registry.register(Shares(states))

    def watch_identities(self, identities: Callable[[], Iterable[IdentityUse]]) -> None:
        self.registry.register(_Identities(identities))

    def exposition(self) -> bytes:
        """The text that a scrape gets, of content type `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _Audit(Collector):
    def __init__(self, audit: Callable[[], AuditState]) -> None:
        self._audit = audit

    def collect(self) -> Iterable[Metric]:
        audit = self._audit()
        yield CounterMetricFamily(
            "broker_audit_records",
            "Audit records made durable.",
            value=audit.records_total,
        )
        yield CounterMetricFamily(
            "broker_audit_failures",
            "Audit records lost to a store that failed.",
            value=audit.failures_total,
        )
        yield GaugeMetricFamily(
            "broker_audit_lag_seconds",
            "How long the oldest unwritten audit record has been waiting.",
            value=audit.lag_seconds,
        )


class _Sinks(Collector):
    def __init__(self, lags: Callable[[], Iterable[tuple[str, int, float]]]) -> None:
        self._lags = lags

    def collect(self) -> Iterable[Metric]:
        behind = GaugeMetricFamily(
            "broker_audit_sink_lag_records",
            "Entries of the record that a sink has not taken yet.",
            labels=("sink",),
        )
        since = GaugeMetricFamily(
            "broker_audit_sink_lag_seconds",
            "How long the oldest entry that a sink has not taken has been waiting.",
            labels=("sink",),
        )
        for sink, records, seconds in self._lags():
            behind.add_metric((sink,), records)
            since.add_metric((sink,), seconds)
        yield behind
        yield since


class _Configuration(Collector):
    def __init__(self, configuration: Callable[[], ConfigurationState]) -> None:
        self._configuration = configuration

    def collect(self) -> Iterable[Metric]:
        loaded_at, degraded = self._configuration()
        yield GaugeMetricFamily(
            "broker_configuration_loaded",
            "1 once a configuration is in use.",
            value=loaded_at is not None,
        )
        yield GaugeMetricFamily(
            "broker_configuration_loaded_timestamp_seconds",
            "When the configuration in use was loaded; 0 before the first one.",
            value=loaded_at.timestamp() if loaded_at else 0.0,
        )
        yield GaugeMetricFamily(
            "broker_configuration_degraded",
            "1 while a newer configuration does not load and the last good one is in use.",
            value=degraded,
        )


class _Credentials(Collector):
    def __init__(self, credentials: Callable[[], Iterable[CredentialExpiry]]) -> None:
        self._credentials = credentials

    def collect(self) -> Iterable[Metric]:
        labels = ("application", "kind", "credential")
        left = GaugeMetricFamily(
            "broker_credential_expiry_seconds",
            "Seconds until an application's credential expires; negative afterwards.",
            labels=labels,
        )
        now = time.time()
        for credential in self._credentials():
            left.add_metric(
                (credential.application, credential.kind, credential.credential),
                credential.expires.timestamp() - now,
            )
        yield left


class _Identities(Collector):
    def __init__(self, identities: Callable[[], Iterable[IdentityUse]]) -> None:
        self._identities = identities

    def collect(self) -> Iterable[Metric]:
        labels = ("caller", "identity")
        used = GaugeMetricFamily(
            "broker_identity_last_used_timestamp_seconds",
            "When an identity of a caller was last used; 0 where not since the start.",
            labels=labels,
        )
        left = GaugeMetricFamily(
            "broker_identity_expires_in_seconds",
            "Seconds until a caller's API key expires; negative afterwards.",
            labels=labels,
        )
        now = time.time()
        for identity in self._identities():
            key = (identity.caller, identity.identity)
            used.add_metric(key, identity.last_used.timestamp() if identity.last_used else 0.0)
            if identity.expires is not None:
                left.add_metric(key, identity.expires.timestamp() - now)
        yield used
        yield left

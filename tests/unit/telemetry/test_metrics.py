from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.telemetry.metrics import (
    AuditState,
    ConfigurationState,
    CredentialExpiry,
    IdentityUse,
    Metrics,
)
from app.telemetry.shares import ShareState

ROOT = Path(__file__).parents[3]
NOW = datetime.now(UTC)


def metrics() -> Metrics:
    made = Metrics(version="0.1.0")
    made.watch_audit(lambda: AuditState(7, 1, 0.25))
    made.watch_sinks(lambda: [("webhook", 3, 1.5)])
    made.watch_configuration(lambda: ConfigurationState(NOW, degraded=True))
    expiry = CredentialExpiry("erp", "certificate", "AB12", NOW + timedelta(days=10))
    made.watch_credentials(lambda: [expiry])
    made.watch_shares(lambda: [ShareState("erp", "contoso", 3, 2, 46.8, 1.5, 5999.0, 1199.5)])
    made.watch_identities(
        lambda: [IdentityUse("loader", "key 1", NOW, NOW), IdentityUse("job", "jwt", None, None)]
    )
    return made


def value(made: Metrics, name: str, **labels: str) -> float | None:
    return made.registry.get_sample_value(name, labels)


def test_a_request_is_counted_and_timed() -> None:
    made = metrics()
    made.request("proxy", "allowed", 200, 0.003)
    made.request("proxy", "allowed", 200, 0.004)
    made.request("proxy", "refused", 403, 0.001)
    asked = {"action": "proxy", "decision": "allowed", "status": "200"}
    assert value(made, "broker_requests_total", **asked) == 2
    assert value(made, "broker_request_duration_seconds_count", action="proxy") == 3
    assert value(made, "broker_request_duration_seconds_bucket", action="proxy", le="0.0025") == 1


def test_refusals_upstream_and_tokens_are_counted() -> None:
    made = metrics()
    made.refusal("not-granted")
    made.upstream(429, 0.1)
    made.upstream(0, 30.0)
    made.token_request("erp", "issued")
    made.token_cache(hit=True)
    made.token_cache(hit=True)
    made.token_cache(hit=False)
    made.in_flight = 3
    assert value(made, "broker_refusals_total", code="not-granted") == 1
    assert value(made, "broker_upstream_requests_total", status="429") == 1
    assert value(made, "broker_upstream_requests_total", status="0") == 1
    assert value(made, "broker_upstream_duration_seconds_count") == 2
    assert value(made, "broker_token_requests_total", application="erp", outcome="issued") == 1
    assert value(made, "broker_token_cache_lookups_total", result="hit") == 2
    assert value(made, "broker_token_cache_lookups_total", result="miss") == 1
    assert value(made, "broker_requests_in_flight") == 3


def test_the_state_of_others_is_read_at_the_scrape() -> None:
    made = metrics()
    assert value(made, "broker_audit_records_total") == 7
    assert value(made, "broker_audit_failures_total") == 1
    assert value(made, "broker_audit_lag_seconds") == 0.25
    assert value(made, "broker_configuration_loaded") == 1
    assert value(made, "broker_configuration_degraded") == 1
    assert value(made, "broker_configuration_loaded_timestamp_seconds") == NOW.timestamp()
    credential = {"application": "erp", "kind": "certificate", "credential": "AB12"}
    left = value(made, "broker_credential_expiry_seconds", **credential)
    assert left is not None
    assert 863_000 < left < 864_001
    key = {"caller": "loader", "identity": "key 1"}
    assert value(made, "broker_identity_last_used_timestamp_seconds", **key) == NOW.timestamp()
    never = {"caller": "job", "identity": "jwt"}
    assert value(made, "broker_identity_last_used_timestamp_seconds", **never) == 0
    assert value(made, "broker_identity_expires_in_seconds", **never) is None


def test_shares_of_dataverses_limits_are_told() -> None:
    made = metrics()
    lane = {"application": "erp", "environment": "contoso"}
    assert value(made, "broker_share_running", **lane) == 3
    assert value(made, "broker_share_waiting", **lane) == 2
    assert value(made, "broker_share_concurrency_limit", **lane) == 46.8
    assert value(made, "broker_share_paused_seconds", **lane) == 1.5
    assert value(made, "broker_dataverse_requests_left", **lane) == 5999
    assert value(made, "broker_dataverse_execution_left_seconds", **lane) == 1199.5


def test_no_configuration_yet_is_told() -> None:
    made = Metrics(version="0.1.0")
    made.watch_configuration(lambda: ConfigurationState(None, degraded=False))
    assert value(made, "broker_configuration_loaded") == 0
    assert value(made, "broker_configuration_degraded") == 0


def test_two_sets_of_metrics_do_not_share_counters() -> None:
    one, other = metrics(), metrics()
    one.refusal("not-granted")
    assert value(other, "broker_refusals_total", code="not-granted") is None


def test_docs_list_every_metric_with_its_labels() -> None:
    made = metrics()
    made.request("proxy", "allowed", 200, 0.003)
    made.refusal("not-granted")
    made.upstream(200, 0.1)
    made.token_request("erp", "issued")
    exposed: dict[str, str] = {}
    for family in made.registry.collect():
        if not family.name.startswith("broker_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = ", ".join(sorted(labels))
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(broker_\w+)` \| \w+ \| ([^|]*) \|", text, re.MULTILINE)
    listed = {name: ", ".join(sorted(re.findall(r"`(\w+)`", labels))) for name, labels in rows}
    assert listed == exposed


def test_the_exposition_is_text_with_help_for_each_metric() -> None:
    made = metrics()
    text = made.exposition().decode("utf-8")
    assert "# HELP broker_requests_total Requests answered" in text
    assert "process_resident_memory_bytes" in text

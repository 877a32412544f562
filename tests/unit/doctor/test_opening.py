"""A configuration that does not load is told problem by problem, and read as far as it can be."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

from app.doctor.finding import About
from app.doctor.opening import Opened, open_configuration

METADATA = Path(__file__).parents[2] / "policy_cases" / "metadata.xml"
TEXT = """\
public_url: https://broker.internal.example
applications:
  erp:
    tenant_id: 8b1f7a52-0000-0000-0000-000000000001
    client_id: 5c2e9d10-0000-0000-0000-000000000001
    credentials:
      - client_secret: {env: ERP_SECRET}
environments:
  prod: {url: "https://contoso.crm4.dynamics.com", schema: {file: metadata.xml}}
callers:
  a:
    grants:
      - environment: prod
        application: erp
        tables: {accounts: {operations: [read]}}
  b:
    grants:
      - environment: prod
        application: erp
        tables: {contacts: {operations: [read]}}
"""


def opened(folder: Path, text: str = TEXT, **environ: str) -> Opened:
    file = folder / "broker.yaml"
    file.write_text(text)
    shutil.copy(METADATA, folder / "metadata.xml") if "metadata.xml" in text else None
    return open_configuration(
        About("configuration"),
        file,
        environ=environ or {"ERP_SECRET": "hunter2"},
        vault=None,
        today=date(2026, 11, 24),
    )


def told(found: Opened) -> list[tuple[str, str | None]]:
    assert "hunter2" not in repr(found.findings)
    return [(finding.level.value, finding.code) for finding in found.findings]


def test_a_configuration_that_loads_is_well_and_says_what_would_be_safer(tmp_path: Path) -> None:
    found = opened(tmp_path)
    assert told(found) == [("ok", None), ("advice", "application-shared")]
    assert "2 callers, 1 environments, 1 applications" in found.findings[0].text


def test_a_missing_secret_is_a_failure_and_the_rest_is_known(tmp_path: Path) -> None:
    found = opened(tmp_path, OTHER="x")
    assert told(found) == [("failure", "configuration-invalid")]
    assert "broker.yaml:7: " in found.findings[0].text
    assert found.configuration is not None


def test_a_form_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    found = opened(tmp_path, TEXT.replace("tenant_id", "tenant"))
    assert found.configuration is None
    assert ("failure", "configuration-invalid") in told(found)


def test_a_pinned_schema_that_contradicts_a_grant_is_a_failure(tmp_path: Path) -> None:
    found = opened(tmp_path, TEXT.replace("accounts:", "acounts:"))
    assert told(found) == [("failure", "configuration-invalid")]
    assert "did you mean accounts?" in found.findings[0].text
    assert found.configuration is not None


def test_a_pinned_schema_that_is_none_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_text("<edmx")
    found = opened(tmp_path, TEXT.replace("metadata.xml", "other.xml"))
    assert told(found) == [("failure", "configuration-invalid")]
    assert "other.xml" in found.findings[0].text

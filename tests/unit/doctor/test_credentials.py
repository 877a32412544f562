"""Each credential is judged by what it says itself, by its day, and by what Graph tells."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from app.config.model import (
    Application,
    ClientSecretCredential,
    EnvReference,
    FederatedTokenCredential,
    FileReference,
    KeyVaultKeyName,
    KeyVaultSignerCredential,
    ManagedIdentityCredential,
    ManagedIdentityName,
)
from app.doctor.credentials import examine_credentials, judge_validity
from app.doctor.finding import About, Finding
from app.tokens.failure import Cause, Failure
from app.tokens.graph import NOT_LISTED, Unknown
from app.tokens.hidden import Hidden
from app.tokens.material import Material, Registration

if TYPE_CHECKING:
    from pathlib import Path

    from app.config.model import Credential

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ABOUT = About("erp")
SECRET = ClientSecretCredential(client_secret=EnvReference(env="A"))
BY_GRAPH = ClientSecretCredential(client_secret=EnvReference(env="A"), expires="graph")
SIGNER = KeyVaultSignerCredential(
    key_vault_signer=KeyVaultKeyName(vault="https://kv.vault.azure.net", certificate="erp")
)
SAFER = ("advice", "secret-could-be-certificate")


def told(findings: Any) -> list[tuple[str, str | None]]:
    return [(finding.level.value, finding.code) for finding in findings]


def judged(credential: Credential, expires_on: datetime | Unknown | None = None) -> list[Finding]:
    return list(judge_validity(ABOUT, "it", credential, expires_on, NOW))


@pytest.mark.parametrize(
    ("left", "level"),
    [
        (timedelta(days=31), "ok"),
        (timedelta(days=30), "warning"),
        (timedelta(seconds=1), "warning"),
        (timedelta(0), "failure"),
    ],
    ids=["later", "in-30-days", "at-once", "now"],
)
def test_an_end_is_judged_by_how_near_it_is(left: timedelta, level: str) -> None:
    assert told(judged(SIGNER, NOW + left)) == [(level, None)]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(366, [("ok", None), SAFER]), (367, [("ok", None), ("warning", "secret-lives-long"), SAFER])],
)
def test_a_secret_lives_a_year_at_most(days: int, expected: list[tuple[str, str | None]]) -> None:
    assert told(judged(SECRET, NOW + timedelta(days=days))) == expected


def test_a_secret_without_an_end_is_told_and_a_managed_identity_has_none() -> None:
    assert told(judged(SECRET)) == [("advice", "secret-expiry-unknown"), SAFER]
    identity = ManagedIdentityCredential(managed_identity=ManagedIdentityName())
    assert told(judged(identity)) == [("ok", None)]


def test_what_graph_does_not_tell_is_warned_of_with_its_reason() -> None:
    warning, _ = judged(BY_GRAPH, NOT_LISTED)
    assert warning.level.value == "warning"
    assert NOT_LISTED.why in warning.text
    assert warning.remedy == f"{NOT_LISTED.remedy}."


@pytest.mark.parametrize(
    ("content", "level", "said"),
    [
        (None, "failure", "cannot be read"),
        ("", "failure", "is empty"),
        ("no.jwt", "warning", "says who it is for"),
        ("a.eyJpc3MiOiAiXHUwMDA3In0.c", "warning", "says who it is for"),
    ],
    ids=["not-there", "empty", "no-token", "not-printable"],
)
def test_a_token_file_is_judged_by_what_is_in_it(
    tmp_path: Path, content: str | None, level: str, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    credential = FederatedTokenCredential(federated_token=FileReference(file=file))
    (finding,) = judged(credential)
    assert finding.level.value == level
    assert said in finding.text


class Entra:
    """Reads by position: a failure, or something with this end."""

    def __init__(self, *answers: Material | Failure) -> None:
        self.answers = list(answers)

    async def read(self, *_: Any) -> Material | Failure:
        return self.answers.pop(0)


class Graph:
    def __init__(self, answer: datetime | Unknown) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def secret_expiry(
        self, registration: Registration, material: Material, now: datetime
    ) -> datetime | Unknown:
        self.asked.append(f"{registration.identity.client_id} {material.id} {now:%H:%M}")
        return self.answer


UNREADABLE = Failure(
    cause=Cause.CREDENTIAL_UNREADABLE, meaning="the file x is empty", remedy="Fill it."
)


def material(expires_on: datetime | None = None) -> Material:
    return Material(
        kind="client_secret",
        id="A",
        fingerprint="f",
        expires_on=expires_on,
        msal_credential=Hidden("hunter2"),
    )


def examined(
    entra: Entra, *credentials: Credential, graph: Graph | None = None
) -> tuple[list[Finding], list[str]]:
    application = Application(
        tenant_id="contoso.example", client_id=UUID(int=7), credentials=credentials
    )
    findings, readable = asyncio.run(
        examine_credentials(
            ABOUT,
            application,
            entra=entra,
            reader=None,  # type: ignore[arg-type] # this Entra needs none
            graph=graph or Graph(NOT_LISTED),
            now=NOW,
        )
    )
    assert "hunter2" not in repr(findings) + repr(readable)
    return findings, [one.label for one in readable]


def test_one_that_cannot_be_read_fails_unless_another_can() -> None:
    findings, readable = examined(Entra(UNREADABLE), SECRET)
    assert [(f.step, f.level.value) for f in findings] == [("secret", "failure")]
    assert readable == []
    findings, readable = examined(Entra(UNREADABLE, material()), SECRET, SIGNER)
    assert ("secret", "warning") in [(f.step, f.level.value) for f in findings]
    assert readable == ["credentials[1] (key vault signer)"]
    assert findings[-1].text == "credentials[0] (client secret): the file x is empty"


def test_graph_is_asked_only_where_the_configuration_says_so() -> None:
    graph = Graph(NOW + timedelta(days=90))
    findings, _ = examined(Entra(material()), BY_GRAPH, graph=graph)
    assert graph.asked == [f"{UUID(int=7)} A 12:00"]
    assert told(findings) == [("ok", None), ("ok", None), SAFER]
    examined(Entra(material()), SECRET, graph=graph)
    examined(Entra(material(NOW + timedelta(days=90))), BY_GRAPH, graph=graph)
    assert len(graph.asked) == 1

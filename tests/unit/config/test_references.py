"""A vault that is down keeps only what is new from being used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from app.config.loading import load
from app.config.model import KeyVaultName, KeyVaultReference
from app.config.problems import ConfigurationError
from app.config.references import vault_references
from app.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

VAULT = "https://kv.vault.azure.net"
TEXT = f"""\
public_url: https://broker.internal.example
applications:
  erp:
    tenant_id: 8b1f7a52-0000-0000-0000-000000000001
    client_id: 5c2e9d10-0000-0000-0000-000000000001
    credentials:
      - client_secret: {{key_vault: {{vault: "{VAULT}", name: first}}}}
      - client_secret: {{key_vault: {{vault: "{VAULT}", name: second}}}}
      - client_secret: {{env: ERP_SECRET}}
"""
ENVIRON = {"ERP_SECRET": "swordfish"}


class Vault:
    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.asked: list[str] = []

    def __call__(self, name: KeyVaultName) -> SecretStr:
        self.asked.append(name.name)
        if name.name in self.missing:
            raise Unavailable("key-vault-unavailable", f"{name.name} cannot be read")
        return SecretStr(f"hunter-{name.name}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "broker.yaml"
    written.write_text(TEXT)
    return written


def reference(name: str) -> KeyVaultReference:
    return KeyVaultReference(key_vault=KeyVaultName(vault=VAULT, name=name))


def test_a_secret_that_a_vault_does_not_give_is_a_problem(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ=ENVIRON, vault=Vault("first", "second"))
    assert [problem.line for problem in caught.value.problems] == [7, 8]


def test_one_that_may_stay_unread_is_not_and_a_silent_vault_is_asked_once(file: Path) -> None:
    vault = Vault("first", "second")
    loaded = load(file, environ=ENVIRON, vault=vault, may_stay_unread=lambda _: True)
    assert loaded.unread == ("applications.erp.credentials[0].client_secret: first cannot be read",)
    assert vault.asked == ["first"]


def test_one_that_is_new_must_be_there(file: Path) -> None:
    known = {reference("first")}
    with pytest.raises(ConfigurationError) as caught:
        load(
            file,
            environ=ENVIRON,
            vault=Vault("first", "second"),
            may_stay_unread=known.__contains__,
        )
    assert [problem.line for problem in caught.value.problems] == [8]


def test_a_variable_that_is_not_set_is_a_problem_whatever_a_vault_may(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={}, vault=Vault(), may_stay_unread=lambda _: True)
    assert [problem.line for problem in caught.value.problems] == [9]


def test_a_vault_that_answers_leaves_nothing_unread(file: Path) -> None:
    loaded = load(file, environ=ENVIRON, vault=Vault(), may_stay_unread=lambda _: True)
    assert loaded.unread == ()
    assert loaded.secrets.text(reference("second")).get_secret_value() == "hunter-second"
    assert vault_references(loaded.configuration) == {reference("first"), reference("second")}

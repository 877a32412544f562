"""A reference leads to its secret, and the secret to nobody else."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretBytes, SecretStr

from app.config.loaded import Loaded
from app.config.model import (
    Configuration,
    EnvReference,
    FileReference,
    KeyVaultName,
    KeyVaultReference,
)
from app.config.secrets import SECRET_BYTES_MAX, SecretMissing, Secrets, resolve

if TYPE_CHECKING:
    from pathlib import Path

ENV = EnvReference(env="ERP_SECRET")
VAULT = KeyVaultReference(
    key_vault=KeyVaultName(vault="https://kv.vault.azure.net", name="erp-secret")
)


def text(reference: EnvReference | FileReference | KeyVaultReference, content: bytes) -> str:
    return Secrets({reference: SecretBytes(content)}).text(reference).get_secret_value()


def test_each_kind_of_reference_leads_to_its_secret(tmp_path: Path) -> None:
    file = FileReference(file=tmp_path / "erp.pfx")
    file.file.write_bytes(b"\x30\x82\xff\n")

    def vault(name: KeyVaultName) -> SecretStr:
        return SecretStr(f"{name.name} of {name.vault}")

    found = [
        resolve(reference, environ={"ERP_SECRET": "swordfish"}, vault=vault).get_secret_value()
        for reference in (ENV, file, VAULT)
    ]

    assert found == [
        b"swordfish",
        b"\x30\x82\xff\n",
        b"erp-secret of https://kv.vault.azure.net",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b"hunter2 ", "hunter2 "),
        ("pass\u00e9".encode(), "pass\u00e9"),
    ],
)
def test_a_text_loses_one_line_end_and_nothing_else(content: bytes, expected: str) -> None:
    assert text(ENV, content) == expected


def test_bytes_are_no_text() -> None:
    with pytest.raises(SecretMissing, match="ERP_SECRET is not UTF-8 text") as caught:
        text(ENV, b"\xff\xfehunter2")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "the environment variable ERP_SECRET is not set"),
        ({"ERP_SECRET": ""}, "the environment variable ERP_SECRET is empty"),
    ],
)
def test_a_missing_variable_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SecretMissing) as caught:
        resolve(ENV, environ=environ, vault=None)
    assert (caught.value.code, caught.value.detail) == ("secret-missing", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"x" * (SECRET_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = FileReference(file=tmp_path / "erp.pem")
    if content is not None:
        file.file.write_bytes(content)
    with pytest.raises(SecretMissing) as caught:
        resolve(file, environ={}, vault=None)
    assert str(file.file) in caught.value.detail
    assert message in caught.value.detail


def test_a_vault_without_its_extra_says_what_to_install() -> None:
    with pytest.raises(SecretMissing, match=r"erp-secret.*dataverse-token-broker\[azure\]"):
        resolve(VAULT, environ={}, vault=None)


def test_a_secret_that_was_not_loaded_is_not_invented() -> None:
    with pytest.raises(SecretMissing):
        Secrets().data(ENV)


def test_no_form_of_it_shows_a_secret() -> None:
    secrets = Secrets({ENV: SecretBytes(b"hunter2")})
    loaded = Loaded(
        configuration=Configuration(public_url="https://broker.example"),
        version="1",
        files=(),
        secrets=secrets,
    )
    for holder in (secrets, loaded):
        assert "hunter2" not in f"{holder!r} {holder}"
        with pytest.raises(TypeError):
            pickle.dumps(holder)
        with pytest.raises(TypeError):
            json.dumps(holder)
    assert "hunter2" not in repr(secrets.text(ENV))

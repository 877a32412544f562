"""References to secrets, and what they lead to: environment variables, files, key vaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from pydantic import SecretBytes, SecretStr

from app.config.model import EnvReference, FileReference, KeyVaultName, KeyVaultReference
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Reference = EnvReference | FileReference | KeyVaultReference

SECRET_BYTES_MAX: Final = 1024 * 1024


class VaultReader(Protocol):
    """Reads one secret of a key vault. Raises `BrokerError` with what is wrong."""

    def __call__(self, name: KeyVaultName) -> SecretStr: ...


class SecretMissing(Misconfigured):
    """A reference that leads nowhere. Names the variable or the file, never a content."""

    def __init__(self, detail: str) -> None:
        super().__init__("secret-missing", detail)


def resolve(
    reference: Reference, *, environ: Mapping[str, str], vault: VaultReader | None
) -> SecretBytes:
    """What the reference leads to, byte for byte. Raises `SecretMissing`."""
    match reference:
        case EnvReference(env=name):
            if not (text := environ.get(name, "")):
                state = "is empty" if name in environ else "is not set"
                raise SecretMissing(f"the environment variable {name} {state}")
            return SecretBytes(text.encode("utf-8", "surrogateescape"))
        case FileReference(file=path):
            return SecretBytes(_read(path))
        case KeyVaultReference(key_vault=name):
            if vault is None:
                raise SecretMissing(
                    f"the secret {name.name} of {name.vault} cannot be read: install "
                    "dataverse-token-broker[azure]"
                )
            return SecretBytes(vault(name).get_secret_value().encode())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise SecretMissing(f"the file {path} cannot be read: {error.strerror}") from error
    if not content:
        raise SecretMissing(f"the file {path} is empty")
    if len(content) > SECRET_BYTES_MAX:
        raise SecretMissing(f"the file {path} is larger than {SECRET_BYTES_MAX} bytes")
    return content


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the references of one configuration led to when it was loaded."""

    _values: Mapping[Reference, SecretBytes] = field(default_factory=dict, repr=False)

    def data(self, reference: Reference) -> SecretBytes:
        """As it is: a PFX is bytes. Raises `SecretMissing` for a reference that was not loaded."""
        if (value := self._values.get(reference)) is None:
            raise SecretMissing("a secret that this configuration does not name was asked for")
        return value

    def text(self, reference: Reference) -> SecretStr:
        """As text, without the one line end that editors and `echo` put behind it."""
        content = self.data(reference).get_secret_value()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            # Not chained: its message quotes the bytes.
            raise SecretMissing(f"{describe(reference)} is not UTF-8 text") from None
        return SecretStr(text.removesuffix("\r\n" if text.endswith("\r\n") else "\n"))

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def describe(reference: Reference) -> str:
    """The reference in words, for errors and the status of credentials."""
    match reference:
        case EnvReference(env=name):
            return f"the environment variable {name}"
        case FileReference(file=path):
            return f"the file {path}"
        case KeyVaultReference(key_vault=name):
            return f"the secret {name.name} of {name.vault}"

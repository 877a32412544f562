"""Which secrets a configuration refers to, where it does, and what they lead to now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.config.model import (
    CertificateCredential,
    ClientSecretCredential,
    KeyVaultReference,
)
from app.config.places import written
from app.config.secrets import Reference, Secrets, resolve
from app.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import SecretBytes

    from app.config.model import Configuration
    from app.config.places import Path as Place
    from app.config.secrets import VaultReader


class Found(NamedTuple):
    secrets: dict[Reference, SecretBytes]
    unread: tuple[str, ...]
    """What may come later, with its place and the reason."""
    problems: tuple[tuple[Place, str], ...]


def read_secrets(
    configuration: Configuration,
    *,
    environ: Mapping[str, str],
    vault: VaultReader | None,
    may_stay_unread: Callable[[KeyVaultReference], bool],
) -> Found:
    """Blocks on files and vaults."""
    secrets: dict[Reference, SecretBytes] = {}
    unread: list[str] = []
    problems: list[tuple[Place, str]] = []
    silent: set[str] = set()
    for place, reference, is_text in references(configuration):
        may_wait_for = (
            reference.key_vault.vault
            if isinstance(reference, KeyVaultReference) and may_stay_unread(reference)
            else None
        )
        if may_wait_for in silent:
            continue  # A vault that is down takes seconds to say so: once is enough.
        try:
            secrets[reference] = secrets.get(reference) or resolve(
                reference, environ=environ, vault=vault
            )
            if is_text:
                Secrets(secrets).text(reference)
        except BrokerError as error:
            if may_wait_for is None or reference in secrets:
                problems.append((place, error.detail))
            else:
                silent.add(may_wait_for)
                unread.append(f"{written(place)}: {error.detail}")
    return Found(secrets, tuple(unread), tuple(problems))


def references(configuration: Configuration) -> Iterator[tuple[Place, Reference, bool]]:
    """Each secret with its place, and whether it must be text."""
    for name, application in configuration.applications.items():
        for i, credential in enumerate(application.credentials):
            path: Place = ("applications", name, "credentials", i)
            match credential:
                case ClientSecretCredential(client_secret=reference):
                    yield (*path, "client_secret"), reference, True
                case CertificateCredential(certificate=reference, passphrase=passphrase):
                    yield (*path, "certificate"), reference, False
                    if passphrase is not None:
                        yield (*path, "passphrase"), passphrase, True
                case _:  # read when they are used: others renew them, or hold them
                    pass


def vault_references(configuration: Configuration) -> frozenset[KeyVaultReference]:
    return frozenset(
        reference
        for _, reference, _ in references(configuration)
        if isinstance(reference, KeyVaultReference)
    )

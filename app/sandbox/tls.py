"""The sandbox's own CA and server certificates, kept where clients can be pointed at them.

`trustme` is imported when first needed: it comes with the extra `sandbox`.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOST_NAMES = ("127.0.0.1", "localhost")


class SandboxIncomplete(Exception):
    """The extra `sandbox` is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """The PEM files of a server, and the CA that its clients trust."""

    ca_file: Path
    certificate_file: Path
    """Key and chain in one file, for the owner's eyes only."""

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate_file)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Trusts the sandbox's CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def server_identity(directory: Path, *, host_names: tuple[str, ...] = HOST_NAMES) -> ServerIdentity:
    """Make a CA and a server certificate in `directory`, or take the CA that is there.

    A CA that stays lets people keep `ca.pem` in a trust store over restarts. Raises
    `SandboxIncomplete` where the extra is missing.
    """
    try:
        import trustme  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SandboxIncomplete(
            "the sandbox needs the package trustme: install dataverse-token-broker[sandbox]"
        ) from error
    directory.mkdir(parents=True, exist_ok=True)
    ca_file, ca_key_file = directory / "ca.pem", directory / "ca-key.pem"
    if ca_file.exists() and ca_key_file.exists():
        ca = trustme.CA.from_pem(ca_file.read_bytes(), ca_key_file.read_bytes())
    else:
        ca = trustme.CA(organization_name="Dataverse sandbox")
        write_private(ca_key_file, ca.private_key_pem.bytes())
        ca_file.write_bytes(ca.cert_pem.bytes())
    issued = ca.issue_cert(*host_names, organization_name="Dataverse sandbox")
    certificate_file = directory / "server.pem"
    write_private(certificate_file, issued.private_key_and_cert_chain_pem.bytes())
    return ServerIdentity(ca_file=ca_file, certificate_file=certificate_file)


def write_private(path: Path, content: bytes) -> None:
    """Readable by the owner alone, from its first moment on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

"""The broker's signing key where it lies: read, or made with the first start."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import structlog

from app.errors import Misconfigured
from app.path.keyring import Keyring, new_key, read_keyring

log = structlog.get_logger()


def keyring_at(path: Path, *, made: bool, shared: bool) -> Keyring:
    """The key in a file. Where `made` it is made if it is not there; `shared` tells that other
    processes need the same one.

    Raises `Misconfigured` where it cannot be read, or must be shared and cannot be kept.
    """
    try:
        return read_keyring(path.read_bytes())
    except FileNotFoundError:
        if not made:
            raise Misconfigured(
                "signing-key-invalid", f"BROKER_SIGNING_KEY_FILE: {path} is not there"
            ) from None
    except OSError as error:
        raise Misconfigured(
            "signing-key-invalid", f"{path} cannot be read: {error.strerror}"
        ) from error
    return _first_key(path, shared=shared)


def _first_key(path: Path, *, shared: bool) -> Keyring:
    pem = new_key()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _keep(path, pem)
    except FileExistsError:
        return read_keyring(path.read_bytes())
    except OSError as error:
        if shared:
            raise Misconfigured(
                "signing-key-missing",
                f"a signing key cannot be kept in {path.parent} ({error.strerror}), and several"
                " processes need the same one: set BROKER_SIGNING_KEY_FILE",
            ) from error
        log.warning("signing_key.in_memory", error=error.strerror)
    return read_keyring(pem)


def _keep(path: Path, pem: bytes) -> None:
    """Raises `FileExistsError` where another worker was faster: its key is whole by then."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            raise
        except OSError:
            # SMB shares have no hard links: there whoever looks first is first.
            if path.exists():
                raise FileExistsError(path) from None
            draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)

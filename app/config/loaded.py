"""A configuration as it was found at one moment, secrets included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from app.config.model import Configuration
    from app.config.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Loaded:
    """`version` changes when anything that was read changes: a file's bytes, a secret.

    Its first half is the digest of the files, the same in every replica that has them; the
    second tells secrets apart within this process only, so that nobody can try guesses of a
    secret against a version that stands in a log.
    """

    configuration: Configuration
    version: str
    files: tuple[Path, ...]
    """All that was read, for whoever watches them: YAML, secrets, CAs, pinned schemas."""
    secrets: Secrets = field(repr=False)
    documents: tuple[Path, ...] = ()
    """The YAML among the files."""
    unread: tuple[str, ...] = ()
    """What could not be had from a vault, and may come later."""

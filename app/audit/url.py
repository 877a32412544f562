"""Which store `BROKER_AUDIT_URL` names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from app.errors import Misconfigured


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> Path:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, as SQLAlchemy made it known."""
    scheme, _, rest = url.partition(":///")
    if scheme != "sqlite" or not rest:
        raise Misconfigured(
            "audit-url-invalid",
            "BROKER_AUDIT_URL: must be sqlite:///PATH or postgresql://…",
        )
    path = Path(rest)
    try:
        # SQLite keeps its log beside the file that a link leads to.
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError):
        raise Misconfigured(
            "audit-url-invalid", f"BROKER_AUDIT_URL: {path} is a link that leads nowhere"
        ) from None


def need_asyncpg() -> None:
    """Raises `Misconfigured` where the extra is not installed."""
    if importlib.util.find_spec("asyncpg") is None:
        raise Misconfigured(
            "extra-missing",
            "BROKER_AUDIT_URL: PostgreSQL needs the extra: pip install"
            " 'dataverse-token-broker[postgres]'",
        )

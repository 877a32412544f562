"""What a configuration would stand for, without secrets, network or a running broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli.checking import checked_configuration
from app.cli.outcome import CouldNot

if TYPE_CHECKING:
    from pathlib import Path

    from app.cli.checking import SchemaFiles
    from app.path.standing import Standing


def offline_standing(config: Path, schemas: SchemaFiles) -> Standing:
    """Raises `CouldNot` with every problem, and where an environment has no schema."""
    checked = checked_configuration(config, schemas=schemas, offline=True)
    if checked.standing is None:
        raise CouldNot("configuration-invalid", "\n".join(map(str, checked.problems)))
    if checked.unseen:
        names = ", ".join(checked.unseen)
        raise CouldNot(
            "schema-missing",
            f"the schema of {names} is live, and nothing is asked here: save one with"
            f" 'curl …/api/data/v9.2/$metadata' and name it: --schema {checked.unseen[0]}=FILE",
        )
    return checked.standing

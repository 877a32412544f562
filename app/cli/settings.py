"""The settings of this process, for a command; where one cannot be read, its variable's name."""

from __future__ import annotations

from pydantic import ValidationError

from app.errors import Misconfigured
from app.settings import Settings


def read_settings() -> Settings:
    """Raises `Misconfigured`, a line for each variable. Never quotes a value: it may be secret."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"BROKER_{'_'.join(str(step) for step in problem['loc']).upper()}: {problem['msg']};"
            " docs/settings.md says what may stand there"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise Misconfigured("setting-invalid", "\n".join(lines)) from None

"""The words of a configuration file: names, URLs, days, and values of several forms.

Each refuses in words that the person who wrote the file can act on, and never repeats what he
wrote: it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
)
from pydantic import Strict as NoCoercion
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Frozen, and closed: an old broker never skips a new rule."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class FileText(str):
    """A text of a configuration file that remembers the folder it was read in."""

    __slots__ = ("folder",)
    folder: Path


def _beside_its_file(value: Any) -> Any:
    return value.folder / value if isinstance(value, FileText) else value


FilePath = Annotated[Path, BeforeValidator(_beside_its_file)]
"""A path; where it is relative, to the file that names it."""

Flag = Annotated[bool, NoCoercion()]
"""`"false"` in quotes is a mistake, not a false."""

Whole = Annotated[int, NoCoercion()]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "a name has letters, digits, '.', '_' and '-', begins with a letter or a digit "
            "and has at most 100 characters"
        )
    return value


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError("must be an identifier as Dataverse writes it: letters, digits and '_'")
    return value


def _table(value: str) -> str:
    return value if value == "*" else _identifier(value)


Name = Annotated[str, AfterValidator(_name)]
Identifier = Annotated[str, AfterValidator(_identifier)]
TableName = Annotated[str, AfterValidator(_table)]
"""An entity set name, or `*` for every table that has no entry of its own."""

Text = Annotated[str, StringConstraints(min_length=1)]


def _guid(value: Any) -> Any:
    # UUID() itself also takes braces, URNs and bare hex: one spelling is enough.
    if isinstance(value, str) and not _GUID.fullmatch(value):
        raise ValueError("must be a GUID like 01234567-89ab-cdef-0123-456789abcdef")
    return value


Guid = Annotated[UUID, BeforeValidator(_guid)]


def _day(value: Any) -> Any:
    # pydantic would take a number for seconds since 1970, and midnight for a day.
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be a day like 2027-06-30")


Day = Annotated[date, BeforeValidator(_day)]


def day_or(word: str) -> BeforeValidator:
    """For where a word may stand instead of a day."""

    def choose(value: Any) -> Any:
        if value == word:
            return value
        try:
            return _day(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {word}") from None

    return BeforeValidator(choose)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _plain_url(value: str) -> None:
    """Refuses what two parsers of URLs could read in two ways."""
    # urlsplit drops tabs and line ends without a word, so they are looked for first.
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        raise ValueError("must be plain ASCII without spaces or backslashes")
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("must be an absolute URL, like https://contoso.crm4.dynamics.com")
    try:
        _ = parts.port
    except ValueError:
        # urllib quotes it, and in `https://user:secret` it is the secret.
        raise ValueError("has a port that is none") from None
    if "@" in parts.netloc or "#" in value:
        raise ValueError("must have no user and no fragment")


def _base_url(value: str) -> str:
    """An origin, perhaps with a path; no trailing slash, so that paths can be added."""
    _plain_url(value)
    if "?" in value:
        raise ValueError("must have no query")
    return value.rstrip("/")


def document_url(value: str) -> str:
    """The address of one document, kept as it is: a query or a final slash may matter there."""
    _plain_url(value)
    return _encrypted(value)


def _encrypted(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https: what goes there is secret (http only on loopback)")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.path:
        raise ValueError("must end after the host: the broker adds /api/data itself")
    return f"{parts.scheme}://{parts.netloc.lower()}"


Url = Annotated[str, AfterValidator(_base_url)]
SafeUrl = Annotated[Url, AfterValidator(_encrypted)]
"""Where a secret or a key goes to or comes from."""
DocumentUrl = Annotated[str, AfterValidator(document_url)]
Origin = Annotated[SafeUrl, AfterValidator(_origin)]


def _first_key(model: type[Strict]) -> str:
    """The key that tells a form from the others: that of its first field."""
    name, info = next(iter(model.model_fields.items()))
    return info.alias or name


def one_of(
    *forms: type[Strict], text: Any = None, several: Any = None, otherwise: str
) -> BeforeValidator:
    """Choose the form by the value's own shape, so that an error names one place, once.

    A union tried member by member would report every member's complaints.
    """
    by_key = {_first_key(form): form for form in forms}
    text_adapter = TypeAdapter(text) if text is not None else None
    several_adapter = TypeAdapter(several) if several is not None else None

    def choose(value: Any) -> Any:
        if isinstance(value, Strict):
            return value
        if isinstance(value, str) and text_adapter is not None:
            return text_adapter.validate_python(value)
        if isinstance(value, list | tuple) and several_adapter is not None:
            return several_adapter.validate_python(value)
        if isinstance(value, dict):
            chosen = next((form for key, form in by_key.items() if key in value), None)
            if chosen is not None:
                return chosen.model_validate(value)
        raise PydanticCustomError("form", "{otherwise}", {"otherwise": otherwise})

    return BeforeValidator(choose)

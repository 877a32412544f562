"""`token-broker keys new`: a key for a caller, and the line that lets it in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from app.cli.outcome import CouldNot, say_json
from app.config.words import Name
from app.identity.keys import generate

LIFETIME: Final = timedelta(days=365)
"""What a key lives when nobody says otherwise: one that never ends is never changed either."""


def new_key(caller: str, *, expires: str | None, as_json: bool) -> None:
    """Raises `CouldNot` for a name or a day that the configuration would refuse."""
    _check_name(caller)
    until = _day(expires)
    key, digest = generate(caller)
    identity: dict[str, Any] = {"sha256": digest}
    if until is not None:
        identity["expires"] = until.isoformat()
    if as_json:
        say_json({"caller": caller, "key": key, "identity": {"api_key": identity}})
        return
    written = ", ".join(f"{name}: {value}" for name, value in identity.items())
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text("The key, shown this once:", style="bold"))
    console.print(Text(f"  {key}\n"))
    console.print(Text(f"Under callers.{caller}.identities:", style="bold"))
    console.print(Text(f"  - api_key: {{{written}}}"))


def _check_name(caller: str) -> None:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - small commands stay quick

    try:
        TypeAdapter(Name).validate_python(caller)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise CouldNot("bad-name", f"the caller's name: {said}") from None


def _day(text: str | None) -> date | None:
    today = datetime.now(UTC).date()
    if text is None:
        return today + LIFETIME
    if text == "never":
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise CouldNot("bad-day", "--expires: a day like 2027-06-30, or never") from None
    if day < today:
        raise CouldNot("bad-day", f"--expires: {day} is over already")
    return day

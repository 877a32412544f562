"""A token request, read: who asks, for what, and with which proof."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from app.sandbox.entra.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT = "/.default"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    client_id: str
    audience: str
    """The resource as it was asked for; `//.default` asks for one with a trailing slash."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secret in each reading that it may have: Basic is form-encoded by some clients only."""
    assertion: str | None = field(default=None, repr=False)
    assertion_type: str | None = None


def read_form(body: bytes) -> dict[str, str]:
    """Raises `Refused` for what is no form, or names a parameter twice."""
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body))
    except ValueError:
        raise Refused(900144, parameter="grant_type") from None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            raise Refused(9000411, parameter=name)
        form[name] = value
    return form


def read_token_request(
    form: Mapping[str, str], *, authorization: str | None, v2: bool
) -> TokenRequest:
    """Raises `Refused`; looks at the form alone, so neither tenant nor application are known."""
    grant_type = _required(form, "grant_type")
    if grant_type != "client_credentials":
        raise Refused(70003, grant_type=grant_type)
    client_id = form.get("client_id")
    secrets: tuple[str, ...] = (form["client_secret"],) if form.get("client_secret") else ()
    if authorization is not None and authorization[:6].lower() == "basic ":
        basic_id, basic_secrets = _basic(authorization)
        client_id = client_id or basic_id
        secrets = secrets or basic_secrets
    if not client_id:
        raise Refused(900144, parameter="client_id")
    return TokenRequest(
        client_id=client_id,
        audience=_audience_of_scope(form) if v2 else _required(form, "resource"),
        secrets=secrets,
        assertion=form.get("client_assertion") or None,
        assertion_type=form.get("client_assertion_type"),
    )


def _required(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if not value:
        raise Refused(900144, parameter=name)
    return value


def _audience_of_scope(form: Mapping[str, str]) -> str:
    scope = _required(form, "scope")
    audiences = []
    for item in scope.split():
        if not item.endswith(_DEFAULT) or item == _DEFAULT:
            raise Refused(70011, scope=scope)
        audiences.append(item.removesuffix(_DEFAULT))
    if not audiences:
        raise Refused(70011, scope=scope)
    if len({audience.rstrip("/") for audience in audiences}) > 1:
        raise Refused(700022, scope=scope)
    return audiences[0]


def _basic(authorization: str) -> tuple[str, tuple[str, ...]]:
    """RFC 6749 (2.3.1) encodes id and secret before Basic does; many clients do not."""
    try:
        plain = base64.b64decode(authorization[6:].strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Refused(7000218) from None
    client_id, colon, secret = plain.partition(":")
    if not colon:
        raise Refused(7000218)
    return unquote_plus(client_id), (secret, unquote_plus(secret))

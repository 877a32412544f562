"""The target of a request as the record keeps it: names and row ids, no values.

    accounts(1f3b…-guid)/contact_customer_accounts?$select=…&$filter=…

A name that the schema does not know is written as <unknown>: otherwise a caller could write
what he likes into the audit, a secret included.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from app.audit.record import MARK, TARGET_MAX, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNKNOWN: Final = "<unknown>"

SEGMENTS: Final = frozenset(
    {
        *("$batch", "$metadata", "$ref", "$value", "$count", "$all", "$entity"),
        # Definitions are entity sets that no schema lists (dataverse-reference 6).
        *("EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions"),
        *("ManagedPropertyDefinitions", "Attributes", "Keys", "OptionSet", "GlobalOptionSet"),
        *("OneToManyRelationships", "ManyToOneRelationships", "ManyToManyRelationships"),
        *("LogicalName", "MetadataId", "SchemaName", "Name"),
    }
)
"""What may stand in a path though it is no table, column, function or action."""

OPTIONS: Final = {
    name.lower(): name
    for name in (
        *("$select", "$filter", "$orderby", "$top", "$skip", "$count", "$expand", "$apply"),
        *("$search", "$format", "$skiptoken", "$deltatoken", "$compute", "$index", "$levels"),
        *("$ref", "$id", "fetchXml", "savedQuery", "userQuery", "tag", "api-version"),
        *("sql", "UnMaskedData", "LabelLanguages", "partitionId", "scope", "resource"),
    )
}

ADDRESSES: Final = frozenset(
    {
        *("audit", "records", "callers", "me", "applications", "tokens", "policy", "explain"),
        *("openapi.json", "problems", "docs", "common", "discovery", "instance", "v2.0"),
        *(".well-known", "openid-configuration", "jwks.json"),
        *("environments", "token", "oauth2", "msi"),
    }
)
"""What may stand in the path of a management or token address."""

FILTERS: Final = {
    name: name
    for name in (
        *("caller", "environment", "application", "action", "table", "operation", "decision"),
        *("status", "from", "to", "request_id", "cursor", "limit", "api-version"),
        *("authorization_endpoint", "resource"),
    )
}
"""The options of management and token addresses."""

ITEMS_MAX: Final = 50
"""Segments, keys of a segment, options: what follows is one mark."""

_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_SEGMENT: Final = re.compile(r"([^()]*)(?:\((.*)\))?", re.DOTALL)


def recorded_target(target: str, known: Callable[[str], bool]) -> str:
    """The part of a target after the Web API's root, without its values.

    `known` says whether a name is one of the schema's: a table, column, function or action.
    """
    return _recorded(target, lambda name: name in SEGMENTS or known(name), OPTIONS)


def recorded_address(target: str, known: Callable[[str], bool]) -> str:
    """The whole target of a management or token request: which address, by which filters.

    `known` says whether a name is one of the configuration's.
    """
    return _recorded(target, lambda name: _is_address(name) or known(name), FILTERS)


def _recorded(target: str, known: Callable[[str], bool], options: Mapping[str, str]) -> str:
    path, question, query = target.partition("?")
    kept = "/".join(_first(_segments(path, known)))
    if question:
        kept += "?" + "&".join(_first(_option(option, options) for option in query.split("&")))
    return clean(kept, TARGET_MAX)


def _is_address(name: str) -> bool:
    return name in ADDRESSES or _GUID.fullmatch(name) is not None


def _segments(path: str, known: Callable[[str], bool]) -> Iterator[str]:
    for segment in _split(path, "/"):
        # Decoded after the split: an encoded slash belongs to its segment.
        match = _SEGMENT.fullmatch(unquote(segment))
        if match is None:
            yield UNKNOWN
            continue
        name, keys = match.groups()
        kept = _name(name, known)
        if keys is not None:
            kept += "(" + ",".join(_first(_key(key, known) for key in _split(keys, ","))) + ")"
        yield kept


def _key(key: str, known: Callable[[str], bool]) -> str:
    name, equals, value = key.partition("=")
    # An equals sign may stand in a quoted value as well.
    if not equals or "'" in name:
        return _value(key)
    return f"{_name(name.strip(), known)}={_value(value)}"


def _value(value: str) -> str:
    if not value:
        return ""
    return value if _GUID.fullmatch(value) else MARK


def _name(name: str, known: Callable[[str], bool]) -> str:
    return name if not name or known(name) else UNKNOWN


def _option(option: str, options: Mapping[str, str]) -> str:
    name, equals, _ = option.partition("=")
    if not option:
        return ""
    name = unquote(name)
    # A parameter alias has a name of the caller's choice.
    kept = f"@{MARK}" if name.startswith("@") else options.get(name.lower(), UNKNOWN)
    return f"{kept}={MARK}" if equals else kept


def _split(text: str, separator: str) -> Iterator[str]:
    """Split where the separator stands neither in quotes nor in parentheses."""
    start, depth, quoted = 0, 0, False
    for place, character in enumerate(text):
        if character == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == separator and depth <= 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _first(items: Iterator[str]) -> Iterator[str]:
    for count, item in enumerate(items):
        if count == ITEMS_MAX:
            yield MARK
            return
        yield item

"""Seals on continuations: what Dataverse handed out comes back as it was, or not at all.

A cookie can name columns, so nobody may write one. The seal is an HMAC over who it was handed
to and over the decoded target, since clients encode anew.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.errors import Unreadable
from app.odata.options import SEAL, read_options
from app.odata.query import Query, without_tokens
from app.odata.segments import read_segment
from app.odata.target import Target, read_target, write_target

if TYPE_CHECKING:
    from app.odata.links import Bases
    from app.odata.reading import Reading
    from app.schema.model import Schema, Table

MAC_BYTES = 24


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key and the id under which seals name it, so that keys can overlap."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals for one caller in one environment. The first key seals, all of them are accepted."""

    keys: tuple[SealKey, ...]
    caller: str
    environment: str
    applications: tuple[str, ...]

    def seal(self, target: Target, application: str) -> str:
        key = self.keys[0]
        return f"{key.id}.{self._mac(key, target, application)}"

    def check(self, seal: str, target: Target) -> str | None:
        """The application that the continuation belongs to, or None where nothing holds."""
        bare = Target(target.segments, tuple(o for o in target.options if o[0] != SEAL))
        key_id, _, mac = seal.partition(".")
        for key in self.keys:
            if key.id != key_id:
                continue
            for application in self.applications:
                wanted = self._mac(key, bare, application)
                if hmac.compare_digest(wanted.encode(), mac.encode("utf-8", "replace")):
                    return application
        return None

    def _mac(self, key: SealKey, target: Target, application: str) -> str:
        fields = [self.caller, self.environment, application, *target.segments, ""]
        for name, value in sorted(target.options):
            fields += [name, value]
        # Length-prefixed, so that no two lists of fields make the same bytes.
        message = b"".join(b"%d:%b" % (len(f.encode()), f.encode()) for f in fields)
        mac = hmac.digest(key.secret, message, hashlib.sha256)[:MAC_BYTES]
        return base64.urlsafe_b64encode(mac).decode("ascii")


def sealed_link(
    link: str, sent: Reading, *, bases: Bases, schema: Schema, sealer: Sealer, application: str
) -> str | None:
    """The link as the caller gets it, under the broker's base.

    None where it is not a continuation of what was sent: nothing else is ever sealed.
    """
    relative = bases.relative(link)
    if relative is None or relative == link:
        return None
    try:
        target = read_target(relative.encode("utf-8"))
        query, seal = read_options(target.options)
        path = tuple(read_segment(s).text() for s in target.segments)
    except (Unreadable, UnicodeEncodeError):
        return None
    if seal is not None:
        return None
    base = f"{bases.public}/api/data/{bases.version}/"
    session = any(name == "sessiontoken" for name, _ in query.plain)
    if not query.continued() and not session:
        # No token: an ordinary request, which is judged as one when it comes.
        return base + write_target(target)
    if not _continues(path, query, sent, schema):
        return None
    written = sealer.seal(target, application)
    options = (*target.options, (SEAL, written))
    return base + write_target(Target(target.segments, options))


def _continues(path: tuple[str, ...], query: Query, sent: Reading, schema: Schema) -> bool:
    bare = without_tokens(query)
    if path == tuple(s.text() for s in sent.path):
        if any(name == "sessiontoken" for name, _ in bare.plain):
            plain = tuple(o for o in bare.plain if o[0] != "sessiontoken")
            asked = {o for o in sent.query.plain if o[0] != "sessiontoken"}
            rest = replace(bare, plain=())
            return set(plain) <= asked and rest == replace(sent.query, plain=())
        return bare == without_tokens(sent.query)
    if sent.returns is None or len(path) != 2:
        return False
    owner = read_segment(path[0])
    if owner.arguments is None:
        return False
    table = schema.tables[sent.returns.type_name]
    return any(
        owner.name in sets and path[1] == navigation and bare == expansion
        for sets, navigation, expansion in _expansions(sent.query, table, schema)
    )


def _expansions(
    query: Query, table: Table, schema: Schema
) -> list[tuple[tuple[str, ...], str, Query]]:
    """Each collection expanded, at any depth: the owner's sets, its name, its own options."""
    found: list[tuple[tuple[str, ...], str, Query]] = []
    owners = schema.sets_of(table.name) or ()
    for item in query.expand:
        navigation = table.navigations.get(item.navigation)
        if navigation is None:
            continue
        if navigation.collection and item.suffix is None and item.cast is None:
            found.append((owners, item.navigation, item.query))
        target = schema.tables.get(navigation.target)
        if target is not None:
            found.extend(_expansions(item.query, target, schema))
    return found

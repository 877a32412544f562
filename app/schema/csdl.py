"""Read CSDL (`$metadata`, OData 4.0 XML) bit by bit into a `Schema`.

A genuine document has some 800 tables and 6 MB. `CsdlReader.feed` takes it in pieces, so that
an event loop can breathe between them.
"""

from __future__ import annotations

import hashlib
from sys import intern
from typing import TYPE_CHECKING
from xml.parsers import expat

from app.schema.building import (
    Builder,
    RawNavigation,
    RawRoutine,
    RawSchema,
    RawType,
    SchemaUnreadable,
    unqualified,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.schema.model import Schema

__all__ = ["CsdlReader", "SchemaUnreadable", "read_csdl"]

_ALTERNATE_KEYS = "OData.Community.Keys.V1.AlternateKeys"
_KEY = "OData.Community.Keys.V1.AlternateKey"

_Attributes = dict[str, str]


class CsdlReader:
    """Feed it the document, then `finish()` it once."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        # A schema has no use for a DTD, and entities are how XML documents explode.
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._digest = hashlib.sha256()
        self._raw = RawSchema()
        self._type: RawType | None = None
        self._navigation: RawNavigation | None = None
        self._routine: RawRoutine | None = None
        self._alternate: list[str] | None = None
        self._alternate_depth = 0
        self._in_alternate_keys = False
        self._names: dict[str, str] = {}
        self._starts: dict[str, Callable[[_Attributes], None]] = {
            "Property": self._property,
            "NavigationProperty": self._navigation_property,
            "ReferentialConstraint": self._constraint,
            "EntityType": self._entity_type,
            "PropertyRef": self._key_part,
            "Annotation": self._annotation,
            "Record": self._record,
            "PropertyValue": self._value,
            "Function": self._function,
            "Action": self._action,
            "Parameter": self._parameter,
            "EntitySet": self._entity_set,
            "FunctionImport": self._function_import,
            "ActionImport": self._action_import,
        }

    def feed(self, data: bytes) -> None:
        """Raises `SchemaUnreadable`."""
        self._digest.update(data)
        self._parse(data, final=False)

    def finish(self) -> Schema:
        """Raises `SchemaUnreadable`."""
        self._parse(b"", final=True)
        if not self._raw.sets:
            raise SchemaUnreadable("$metadata names no entity set")
        return Builder(self._raw).schema(self._digest.hexdigest()[:16])

    def _parse(self, data: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise SchemaUnreadable(f"$metadata is not well-formed XML: {error}") from error
        except KeyError as error:
            line = self._parser.CurrentLineNumber
            raise SchemaUnreadable(f"$metadata lacks {error.args[0]} in line {line}") from error

    # ------------------------------------------------------------ handlers

    def _doctype(self, *_: object) -> None:
        raise SchemaUnreadable("$metadata has a DOCTYPE")

    def _start(self, tag: str, attributes: _Attributes) -> None:
        handler = self._starts.get(self._local(tag))
        if handler is not None:
            handler(attributes)

    def _local(self, tag: str) -> str:
        """The name without its namespace; remembered, since a document repeats a dozen."""
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = tag.rpartition(" ")[2]
        return name

    def _end(self, tag: str) -> None:
        name = self._local(tag)
        if name == "NavigationProperty":
            self._navigation = None
        elif name in {"EntityType", "ComplexType"}:
            self._type = None
        elif name in {"Function", "Action"}:
            self._routine = None
        elif name == "Annotation":
            self._in_alternate_keys = False
        elif name == "Record" and self._alternate is not None and self._type is not None:
            if self._alternate_depth == 0:
                if self._alternate:
                    self._type.alternate_keys.append(tuple(self._alternate))
                self._alternate = None
            else:
                self._alternate_depth -= 1

    def _entity_type(self, a: _Attributes) -> None:
        base = a.get("BaseType")
        self._type = RawType(
            name=intern(a["Name"]),
            base=None if base is None else unqualified(base),
            abstract=a.get("Abstract") == "true",
        )
        self._raw.types[self._type.name] = self._type

    def _key_part(self, a: _Attributes) -> None:
        if self._type is not None:
            self._type.key.append(intern(a["Name"]))

    def _property(self, a: _Attributes) -> None:
        if self._type is not None:
            self._type.properties[intern(a["Name"])] = intern(a["Type"])

    def _navigation_property(self, a: _Attributes) -> None:
        if self._type is not None:
            self._navigation = RawNavigation(intern(a["Name"]), a["Type"], a.get("Partner"))
            self._type.navigations[self._navigation.name] = self._navigation

    def _constraint(self, a: _Attributes) -> None:
        if self._navigation is not None:
            self._navigation.constraint = a["Property"]

    def _annotation(self, a: _Attributes) -> None:
        self._in_alternate_keys = a.get("Term") == _ALTERNATE_KEYS and self._type is not None

    def _record(self, a: _Attributes) -> None:
        if not self._in_alternate_keys:
            return
        if a.get("Type") == _KEY:
            self._alternate = []
            self._alternate_depth = 0
        elif self._alternate is not None:
            self._alternate_depth += 1

    def _value(self, a: _Attributes) -> None:
        if self._alternate is not None and a.get("Property") == "Name" and "PropertyPath" in a:
            self._alternate.append(intern(a["PropertyPath"]))

    def _function(self, a: _Attributes) -> None:
        self._begin_routine(a, is_action=False)

    def _action(self, a: _Attributes) -> None:
        self._begin_routine(a, is_action=True)

    def _begin_routine(self, a: _Attributes, *, is_action: bool) -> None:
        self._routine = RawRoutine(a["Name"], is_action=is_action, bound=a.get("IsBound") == "true")
        self._raw.routines.append(self._routine)

    def _parameter(self, a: _Attributes) -> None:
        if self._routine is not None:
            self._routine.parameters.append((a["Name"], a["Type"]))

    def _entity_set(self, a: _Attributes) -> None:
        self._raw.sets[intern(a["Name"])] = unqualified(a["EntityType"])

    def _function_import(self, a: _Attributes) -> None:
        self._raw.imports[a["Name"]] = unqualified(a["Function"])

    def _action_import(self, a: _Attributes) -> None:
        self._raw.imports[a["Name"]] = unqualified(a["Action"])


def read_csdl(document: bytes) -> Schema:
    """Read a whole document at once. Raises `SchemaUnreadable`."""
    reader = CsdlReader()
    reader.feed(document)
    return reader.finish()

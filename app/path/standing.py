"""What counts at this moment: configuration, schemas and the grants compiled from both.

A `Standing` is immutable and swapped whole, so that a request sees one configuration from its
first line to its last.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.errors import Misconfigured
from app.odata.links import Bases
from app.policy.compiling import GrantProblem, compile_grant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config import model
    from app.config.loaded import Loaded
    from app.policy.grants import Grant
    from app.schema.model import Schema


@dataclass(frozen=True, slots=True)
class Place:
    """One environment as it stands. `schema` is None until the first one is there."""

    name: str
    config: model.Environment
    schema: Schema | None
    names: frozenset[str] = field(repr=False)
    """Every name that the schema knows: what a record may show."""

    @property
    def resource(self) -> str:
        """What its tokens are for: their audience."""
        return self.config.url

    def knows(self, name: str) -> bool:
        return name in self.names


@dataclass(frozen=True, slots=True)
class Standing:
    """`grants` by caller and environment, in the configuration's order."""

    loaded: Loaded
    places: Mapping[str, Place]
    grants: Mapping[tuple[str, str], tuple[Grant, ...]]
    problems: tuple[GrantProblem, ...] = ()
    number: int = field(default_factory=itertools.count(1).__next__)
    """No two have the same: what was decided under one counts under that one only."""

    @property
    def configuration(self) -> model.Configuration:
        return self.loaded.configuration

    def bases(self, place: Place, version: str, *, rooted: bool) -> Bases:
        """`rooted`: the caller asked at the broker's root, so its links lead there."""
        root = self.configuration.public_url
        public = root if rooted else f"{root}/environments/{place.name}"
        return Bases(public, root, place.config.url, version)


class GrantsInvalid(Misconfigured):
    """Grants that a pinned schema contradicts, each with its place."""

    def __init__(self, problems: tuple[GrantProblem, ...]) -> None:
        said = "\n".join(f"{_written(p.place)}: {p.message}" for p in problems)
        super().__init__("configuration-invalid", said)
        self.problems = problems


def _written(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).removeprefix(".")


def stand(loaded: Loaded, schemas: Mapping[str, Schema]) -> Standing:
    """Compile every grant whose environment's schema is there.

    Raises `GrantsInvalid` where a pinned schema contradicts a grant. What a live schema
    contradicts is closed, and told in `problems`.
    """
    configuration = loaded.configuration
    places = {
        name: Place(name, config, schemas.get(name), known_names(schemas.get(name)))
        for name, config in configuration.environments.items()
    }
    grants: dict[tuple[str, str], list[Grant]] = {}
    fatal: list[GrantProblem] = []
    told: list[GrantProblem] = []
    for caller_name, caller in configuration.callers.items():
        for index, grant in enumerate(caller.grants):
            place = places[grant.environment]
            if place.schema is None:
                continue
            compiled = compile_grant(
                grant, place.schema, caller=caller_name, index=index, version=loaded.version
            )
            pinned = place.config.schema_ != "live"
            (fatal if pinned else told).extend(compiled.problems)
            grants.setdefault((caller_name, grant.environment), []).append(compiled.grant)
    if fatal:
        raise GrantsInvalid(tuple(fatal))
    return Standing(
        loaded, places, {key: tuple(found) for key, found in grants.items()}, tuple(told)
    )


def known_names(schema: Schema | None) -> frozenset[str]:
    if schema is None:
        return frozenset()
    names: set[str] = {*schema.sets, *schema.tables, *schema.imports, *schema.bound}
    names.update(f"Microsoft.Dynamics.CRM.{n}" for n in (*schema.tables, *schema.bound))
    for table in schema.tables.values():
        names.update(table.properties)
        names.update(table.navigations)
        names.update(table.columns)
    return frozenset(names)

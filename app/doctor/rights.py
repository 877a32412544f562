"""What the grants name, compared with the environment's own schema and privileges."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.dataverse.metadata import EnvironmentMetadata, MetadataRefused
from app.doctor.asking import Refused, Unreached, table_privileges
from app.doctor.finding import several
from app.errors import BrokerError
from app.policy.compiling import compile_grant
from app.schema.csdl import SchemaUnreadable, read_csdl

if TYPE_CHECKING:
    from app.config import model
    from app.doctor.asking import Asker
    from app.doctor.finding import About, Finding
    from app.doctor.needs import TablePrivileges
    from app.policy.grants import Grant
    from app.schema.model import Schema

READS_SCHEMA = (
    "Add prvReadEntity, prvReadAttribute and prvReadRelationship to its role: the broker reads a"
    " live schema as an application that is granted there."
)


@dataclass(slots=True)
class Rights:
    """`grants`: caller, the grant's place among his, and the grant.

    `alone`: no other application is granted in the environment, so this one's reading counts.
    """

    about: About
    environment: model.Environment
    asker: Asker
    grants: tuple[tuple[str, int, model.Grant], ...]
    alone: bool = True
    schema: Schema | None = field(default=None, repr=False)
    tables: dict[str, TablePrivileges] = field(default_factory=dict, repr=False)

    async def read(self) -> Finding:
        """Fetch schema and privileges, and say whether the grants fit."""
        try:
            self.schema = await asyncio.to_thread(read_csdl, await self._source().csdl())
            self.tables = await table_privileges(self.asker)
        except MetadataRefused as error:
            text = f"the application may not read the schema (HTTP {error.status})"
            return self._unread(text, READS_SCHEMA, error.code)
        except Refused as error:
            return self._unread(error.refusal.says, error.refusal.remedy, error.refusal.code)
        except (Unreached, BrokerError) as error:
            return self._unread(error.detail, None, error.code)
        except SchemaUnreadable as error:
            return self._unread(f"the schema cannot be read: {error}", None, None)
        return self._compared(self.schema)

    def compiled(self) -> tuple[Grant, ...]:
        assert self.schema is not None
        return tuple(
            compile_grant(grant, self.schema, caller=caller, index=place, version="").grant
            for caller, place, grant in self.grants
        )

    def _source(self) -> EnvironmentMetadata:
        async def token() -> str:
            return self.asker.token.open()

        return EnvironmentMetadata(
            self.asker.client,
            token,
            environment_url=self.environment.url,
            api_version=self.environment.api_versions[0],
        )

    def _unread(self, text: str, remedy: str | None, code: str | None) -> Finding:
        needed = self.alone and self.environment.schema_ == "live"
        tell = self.about.failure if needed else self.about.warning
        return tell("tables", text, remedy, code=code)

    def _compared(self, schema: Schema) -> Finding:
        problems = tuple(
            f"{caller}: {problem.message}"
            for caller, place, grant in self.grants
            for problem in compile_grant(
                grant, schema, caller=caller, index=place, version=""
            ).problems
        )
        if problems:
            return self.about.failure(
                "tables",
                f"the schema contradicts the grants: {several(problems, shown=3)}",
                "Correct the names in the grants; what the schema does not know stays closed.",
                names=problems,
            )
        tables = tuple(sorted({t for _, _, grant in self.grants for t in grant.tables} - {"*"}))
        text = f"the schema has every table and column of the grants ({len(tables)} tables)"
        return self.about.ok("tables", text, names=tables)


def privileges_held(answer: Any) -> dict[str, str] | None:
    """The depth by privilege, from RetrieveUserPrivileges; None for what is no such answer."""
    rows = answer.get("RolePrivileges") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        return None
    return {
        str(row["PrivilegeName"]): str(row.get("Depth"))
        for row in rows
        if isinstance(row, dict) and row.get("PrivilegeName")
    }

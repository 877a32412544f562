"""Requests that read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.path.making.bodies import Bodies
from tests.path.making.names import NAMESPACE, NOBODY, UNLIKELY
from tests.path.second_reader import Asking

JSON = ("Content-Type", "application/json")
_ROW_COUNT = "RetrieveTotalRecordCount"
_INITIALIZE = "InitializeFrom(EntityMoniker=@p1,TargetEntityName='contact',TargetFieldType=@p2)"


class Reads(Bodies):
    def asking(
        self,
        method: str,
        path: str,
        options: list[tuple[str, str]] = [],  # noqa: B006 - never changed
        headers: tuple[tuple[str, str], ...] = (),
        body: Any = None,
    ) -> Asking:
        query = "&".join(f"{self._encoded(n)}={self._encoded(v)}" for n, v in options)
        target = self._encoded(path, path=True) + (f"?{query}" if query else "")
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = (*headers, JSON)
        return Asking(method, target, (*headers, *self._headers(method)), content)

    def _encoded(self, text: str, *, path: bool = False) -> str:
        safe = "$'()*,=:@-._~/!;" if self.dice.chance(0.7) else "-._~()/"
        if path:
            safe += "()"
        written = quote(text, safe=safe)
        if not path and self.dice.chance(0.3):
            written = written.replace("%20", "+")
        return written

    def _headers(self, method: str) -> tuple[tuple[str, str], ...]:
        dice = self.dice
        found: list[tuple[str, str]] = []
        if dice.chance(0.25):
            found.append(("Prefer", dice.pick((
                'odata.include-annotations="*"', "odata.maxpagesize=2", "return=representation",
                "odata.track-changes", "return=representation,odata.maxpagesize=1",
                "respond-async", 'odata.maxpagesize=3;x="y", return = minimal',
                "odata.continue-on-error",
            ))))  # fmt: skip
        if method != "GET" and dice.chance(0.35):
            found.append(("If-Match", dice.pick(("*", "*", 'W/"1"', 'W/"1000001"', "null"))))
        if dice.chance(0.15):
            found.append(("If-None-Match", dice.pick(("null", "null", "*", 'W/"1"'))))
        if dice.chance(UNLIKELY):
            found.append(dice.pick((
                ("CallerObjectId", "e39c5d16-675b-48d1-8e67-667427e9c084"),
                ("MSCRMCallerID", NOBODY), ("MSCRM.SuppressDuplicateDetection", "true"),
                ("Connection", "If-Match, keep-alive"), ("X-HTTP-Method-Override", "DELETE"),
                ("Connection", "CallerObjectId"), ("Content-Encoding", "gzip"),
                ("MSCRM.BypassCustomPluginExecution", "true"), ("Consistency", "Strong"),
            )))  # fmt: skip
        return tuple(found)

    def read(self) -> Asking:
        segments, table, many = self.rows_path(self.table())
        options = self.with_aliases(self.options(table, collection=many))
        return self.asking("GET", "/".join(segments), options)

    def fetched(self) -> Asking:
        table = self.table()
        segments, at = [table.set_name], table
        if self.dice.chance(0.1):
            segments, at, _ = self.rows_path(table)
        options = [(self.dice.pick(("fetchXml", "fetchXml", "fetchxml")), self.fetch(at))]
        if self.dice.chance(0.05):
            options.append(("$count", "true"))
        return self.asking("GET", "/".join(segments), options)

    def property_read(self) -> Asking:
        segments, table, many = self.rows_path(self.table())
        if many:
            segments[-1] += f"({self.key(table)})"
        name = self.property(table)
        raw = ["$value"] if self.dice.chance(0.2) else []
        options = [("size", "full")] if self.dice.chance(0.1) else []
        return self.asking("GET", "/".join([*segments, name, *raw]), options)

    def counted_or_referenced(self) -> Asking:
        segments, table, many = self.rows_path(self.table())
        end = "$count" if many and self.dice.chance(0.6) else "$ref"
        options = []
        if many and self.dice.chance(0.4):
            options = [("$filter", self.condition(table))]
        return self.asking("GET", "/".join([*segments, end]), self.with_aliases(options))

    def called(self) -> Asking:
        table = self.table()
        name = self.dice.pick(("RetrieveUserPrivileges", "RetrieveAllChildUsersSystemUser"))
        moniker = f"{{'@odata.id':'{self.reference(table)}'}}"
        none: list[tuple[str, str]] = []
        known = ("@p1", moniker), ("@p2", f"{NAMESPACE}.TargetFieldType'All'")
        path, options = self.dice.pick(
            (
                ("WhoAmI", none),
                ("WhoAmI()", none),
                ("RetrieveVersion()", none),
                ("Nonesuch(A=1)", none),
                (f"{self.one_row(table)}/{NAMESPACE}.{name}()", none),
                (f"{_ROW_COUNT}(EntityNames=['{table.logical}','account'])", none),
                (f"{_ROW_COUNT}(EntityNames=@p1)", [("@p1", "['contact']")]),
                (_INITIALIZE, list(known)),
            )
        )
        return self.asking("GET", path, options)

    def definitions(self) -> Asking:
        table = self.table()
        base = self.dice.pick((
            f"EntityDefinitions(LogicalName='{table.logical}')",
            f"EntityDefinitions({table.metadata_id})", "EntityDefinitions", "$metadata", "",
            "GlobalOptionSetDefinitions", "RelationshipDefinitions",
        ))  # fmt: skip
        options = []
        if base == "EntityDefinitions" and self.dice.chance(0.7):
            options.append(("$filter", f"LogicalName eq '{table.logical}'"))
        if base.startswith("Entity") and self.dice.chance(0.5):
            base += self.dice.pick((
                "/Attributes", "/Keys", f"/Attributes(LogicalName='{self.column(table).name}')",
                "/ManyToOneRelationships", "/ObjectTypeCode/$value",
                f"/Attributes/{NAMESPACE}.PicklistAttributeMetadata",
            ))  # fmt: skip
        if self.dice.chance(0.3):
            options.append(("$select", "LogicalName"))
        if self.dice.chance(0.2):
            options.append(("$expand", self.dice.pick(("Attributes", "ManyToOneRelationships"))))
        return self.asking("GET", base, options)

"""Requests that write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.path.making.names import NAMESPACE
from tests.path.making.reads import Reads

if TYPE_CHECKING:
    from tests.path.second_reader import Asking


class Writes(Reads):
    def created(self) -> Asking:
        table = self.table()
        options = [("$select", self.select(table))] if self.dice.chance(0.2) else []
        return self.asking("POST", self.set_name(table), options, body=self.row(table))

    def patched(self) -> Asking:
        table = self.table()
        path = self.one_row(table)
        if self.dice.chance(0.05):
            path += f"/{self.cast(table)}"
        if self.dice.chance(0.03):
            nav = self.nav(table, collection=False)
            path += "" if nav is None else f"/{nav.name}"
        options = [("$select", self.select(table))] if self.dice.chance(0.15) else []
        return self.asking("PATCH", path, options, body=self.row(table, 1))

    def deleted(self) -> Asking:
        table = self.table()
        path = self.one_row(table)
        if self.dice.chance(0.15):
            nav = self.nav(table)
            path += "" if nav is None else f"/{nav.name}"
        return self.asking("DELETE", path)

    def property_written(self) -> Asking:
        table = self.table()
        column = self.column(table)
        method = self.dice.pick(("PUT", "PUT", "DELETE", "PATCH"))
        path = f"{self.one_row(table)}/{column.property_name}"
        if method == "DELETE":
            return self.asking(method, path)
        return self.asking(method, path, body={"value": self.value(column)})

    def joined(self) -> Asking:
        table = self.table()
        nav = self.nav(table)
        if nav is None:
            return self.deleted()
        far = self.concrete(self.schema[nav.target])
        path = f"{self.one_row(table)}/{nav.name}"
        if self.dice.chance(0.35):
            options = []
            if nav.is_collection and self.dice.chance(0.5):
                path += f"({self.key(far)})"
            elif nav.is_collection:
                options.append(("$id", self.reference(far)))
            return self.asking("DELETE", f"{path}/$ref", options)
        method = "POST" if nav.is_collection == self.dice.chance(0.95) else "PUT"
        return self.asking(method, f"{path}/$ref", body={"@odata.id": self.reference(far)})

    def bulk(self) -> Asking:
        table = self.table()
        name = self.dice.pick(
            ("CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple")
        )
        items = [self.item(table) for _ in range(self.dice.number(1, 2))]
        if name == "DeleteMultiple" and self.dice.chance(0.8):
            items = [{k: v for k, v in i.items() if k in {"@odata.type", table.pk}} for i in items]
        path = f"{self.set_name(table)}/{NAMESPACE}.{name}"
        return self.asking("POST", path, body={"Targets": items})

    def acted(self) -> Asking:
        contact, project = self.schema["contact"], self.schema["new_project"]
        path, body = self.dice.pick((
            (f"{self.one_row(contact)}/{NAMESPACE}.new_AddNoteToContact",
             {"NoteTitle": "x", "NoteText": "y"}),
            (f"{self.one_row(project)}/{NAMESPACE}.new_CloseProject", {"Reason": "x"}),
            ("PublishAllXml", {}), ("CreateEntities", {"Entities": []}),
            ("Merge", {"Target": {"@odata.id": self.reference(contact)}}), ("nonesuch", {}),
        ))  # fmt: skip
        return self.asking("POST", path, body=body)

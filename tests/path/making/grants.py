"""Grants made up at random, most of them generous enough for much to be allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.path.making.names import TABLES

if TYPE_CHECKING:
    from tests.path.making.dice import Dice

FILTERS = {
    "account": ("statecode eq 0", "industrycode eq 7 or creditonhold eq false", "name ne null"),
    "contact": ("statecode eq 0", "contains(jobtitle,'a')"),
    "invoice": ("statecode eq 0 and totalamount lt 2000",),
    "task": ("statecode eq 0",),
    "activitypointer": ("statecode eq 0",),
    "new_project": ("new_status eq 1",),
    "annotation": ("notetext ne null",),
}
_CANNOT_CREATE = frozenset({" or ", "contains", " lt ", " ne "})
_OPERATIONS = ("read", "create", "update", "delete", "append_to", "assign")


def made_up(dice: Dice) -> dict[str, Any]:
    """As a configuration writes it."""
    tables: dict[str, Any] = {}
    for table in TABLES:
        likely = 0.75 if table.logical in FILTERS else 0.4
        if dice.chance(likely):
            tables[table.set_name] = _rule(dice, table.logical)
    if dice.chance(0.35):
        tables["*"] = {"operations": [o for o in _OPERATIONS if dice.chance(0.7)]}
    rule: dict[str, Any] = {"tables": tables, "metadata": dice.pick(("none", "granted", "all"))}
    if dice.chance(0.5):
        rule["functions"] = ["WhoAmI", {"name": "RetrieveUserPrivileges", "table": "systemusers"}]
    if dice.chance(0.5):
        rule["actions"] = [{"name": "new_AddNoteToContact", "table": "contacts"}]
    if dice.chance(0.2):
        rule["headers"] = ["MSCRM.SuppressDuplicateDetection"]
    if dice.chance(0.15):
        who = "e39c5d16-675b-48d1-8e67-667427e9c084"
        rule["impersonate"] = dice.pick(({"as": who}, {"caller_id": [who]}))
    if dice.chance(0.3):
        rule["limits"] = {"page_size": dice.pick((2, 500)), "expand_depth": dice.number(1, 4)}
    return rule


def _rule(dice: Dice, logical: str) -> dict[str, Any]:
    table = TABLES[logical]
    operations = [o for o in _OPERATIONS if dice.chance(0.75)]
    if dice.chance(0.1):
        operations = []
    rule: dict[str, Any] = {"operations": operations}
    names = [c.name for c in table.columns]
    if dice.chance(0.7):
        rule["columns"] = [n for n in names if dice.chance(0.6)]
    if dice.chance(0.4):
        rule["writable_columns"] = [n for n in names if dice.chance(0.6)]
    if logical in FILTERS and dice.chance(0.4):
        row_filter = dice.pick(FILTERS[logical])
        rule["row_filter"] = row_filter
        if any(word in row_filter for word in _CANNOT_CREATE):
            rule["operations"] = [o for o in operations if o != "create"]
        rule["writable_columns"] = [
            n for n in rule.get("writable_columns", names) if n not in row_filter
        ]
    return rule


def known_columns(rule: dict[str, Any]) -> dict[str, list[str]]:
    """The columns that a grant lets read or written, by logical name of the table."""
    found: dict[str, list[str]] = {}
    for table in TABLES:
        given = rule["tables"].get(table.set_name, rule["tables"].get("*"))
        if given is not None and given["operations"]:
            names = [c.name for c in table.columns]
            found[table.logical] = given.get("columns", names) or names
    return found

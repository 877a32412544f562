"""Microsoft.Dynamics.CRM.* in a filter: In, Between, Last7Days, EqualUserId, Under, …"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.expressions import Expression, plain
from app.sandbox.dataverse.failures import bad_request, not_emulated
from app.sandbox.dataverse.schema import NAMESPACE
from app.sandbox.dataverse.terms import column_of, instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.terms import Binder, Scope, Term

_X_UNITS = ("Hours", "Days", "Weeks", "Months", "Years", "Minutes")


def condition(name: str, arguments: Mapping[str, Expression], scope: Scope, binder: Binder) -> str:
    short = name.removeprefix(f"{NAMESPACE}.")
    if short == name:
        raise bad_request(f"An unknown function with name '{name}' was found.")
    values = {key: plain(node) for key, node in arguments.items()}
    named = values.pop("PropertyName", None)
    if not isinstance(named, str):
        raise bad_request(f"The function '{name}' needs a PropertyName.")
    return by_operator(short, named, values, scope, binder)


def by_operator(
    short: str, named: str, values: Mapping[str, Any], scope: Scope, binder: Binder
) -> str:
    """`values`: PropertyValue, PropertyValues, PropertyValue1 and PropertyValue2."""
    term = _property(named, scope, binder)
    many = [*values["PropertyValues"]] if "PropertyValues" in values else []
    one = values.get("PropertyValue", values.get("PropertyValue1"))
    match short:
        case "In" | "NotIn":
            marks = ", ".join(binder.bind(as_stored(v, term)) for v in many)
            inside = f"{term.sql} IN ({marks})"
            return inside if short == "In" else f"NOT COALESCE({inside}, 0)"
        case "Between" | "NotBetween":
            if len(many) != 2:
                raise bad_request(f"{short} needs two values.")
            low, high = (binder.bind(as_stored(v, term)) for v in many)
            inside = f"{term.sql} BETWEEN {low} AND {high}"
            return inside if short == "Between" else f"NOT COALESCE({inside}, 0)"
        case "ContainValues" | "DoesNotContainValues":
            inside = " OR ".join(
                f"',' || {term.sql} || ',' LIKE {binder.bind(f'%,{v},%')}" for v in many
            )
            return f"({inside})" if short == "ContainValues" else f"NOT COALESCE({inside}, 0)"
        case "EqualUserId" | "NotEqualUserId":
            return _is(term, binder.user.id, binder, negated=short.startswith("Not"))
        case "EqualBusinessId" | "NotEqualBusinessId":
            return _is(term, binder.user.business_unit, binder, negated=short.startswith("Not"))
        case "EqualUserTeams" | "EqualUserOrUserTeams":
            user = binder.bind(binder.user.id)
            teams = (
                f"{term.sql} IN (SELECT teamid FROM teammembership_pairs "  # noqa: S608
                f"WHERE systemuserid = {user})"
            )
            return teams if short == "EqualUserTeams" else f"({term.sql} = {user} OR {teams})"
        case "Under" | "UnderOrEqual" | "NotUnder" | "Above" | "AboveOrEqual":
            return _hierarchy(short, str(one), scope, binder)
    span = _span(short, one, binder.now)
    if span is None:
        raise not_emulated(f"the query function {NAMESPACE}.{short}")
    if term.sort not in {"date", "datetime"}:
        raise bad_request(f"The function {short} is for dates.")
    start, end = span
    parts: list[str] = []
    if start is not None:
        parts.append(f"{term.sql} >= {binder.bind(as_stored(start, term))}")
    if end is not None:
        parts.append(f"{term.sql} < {binder.bind(as_stored(end, term))}")
    return "(" + " AND ".join(parts) + ")"


def _property(named: str, scope: Scope, binder: Binder) -> Term:
    if named not in scope.table.by_property and named in scope.table.by_name:
        named = scope.table.by_name[named].property_name
    return column_of(tuple(named.split("/")), scope, binder)


def _is(term: Term, value: str, binder: Binder, *, negated: bool) -> str:
    return f"{term.sql} {'IS NOT' if negated else '='} {binder.bind(value)}"


def as_stored(value: Any, term: Term) -> Any:
    if isinstance(value, datetime):
        shape = "%Y-%m-%d" if term.sort == "date" else "%Y-%m-%dT%H:%M:%SZ"
        return value.strftime(shape)
    if term.sort == "number" and isinstance(value, str):
        try:
            return float(value) if "." in value else int(value)
        except ValueError as error:
            raise bad_request(f"'{value}' is not a number.") from error
    if term.sort == "datetime":
        return instant(str(value))
    if term.sort == "guid":
        return str(value).lower().strip("{}")
    if term.sort == "bool":
        return int(str(value).lower() in {"1", "true"})
    return value


def _hierarchy(short: str, row_id: str, scope: Scope, binder: Binder) -> str:
    table = scope.table
    parent = {"account": "parentaccountid", "businessunit": "parentbusinessunitid"}.get(
        table.logical
    )
    if parent is None:
        raise bad_request(f"The table {table.logical} has no hierarchical relationship.")
    start = binder.bind(row_id.lower())
    first = f"SELECT {table.pk} FROM {table.logical} WHERE {table.pk} = {start}"  # noqa: S608
    if short.startswith("Above"):
        step = (
            f"SELECT r.{parent} FROM {table.logical} r JOIN line "  # noqa: S608
            f"ON r.{table.pk} = line.id WHERE r.{parent} IS NOT NULL"
        )
    else:
        step = (
            f"SELECT r.{table.pk} FROM {table.logical} r JOIN line "  # noqa: S608
            f"ON r.{parent} = line.id"
        )
    line = f"(WITH RECURSIVE line(id) AS ({first} UNION {step}) SELECT id FROM line)"  # noqa: S608
    here = f"{scope.alias}.{table.pk}"
    match short:
        case "NotUnder":
            return f"({here} NOT IN {line} OR {here} = {start})"
        case "Under" | "Above":
            return f"({here} IN {line} AND {here} <> {start})"
    return f"{here} IN {line}"


def _span(short: str, one: Any, now: datetime) -> tuple[datetime | None, datetime | None] | None:
    """From when, until before when; UTC, weeks from Sunday. None for what is not emulated."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    tomorrow = today + day
    match short:
        case "Today":
            return today, tomorrow
        case "Yesterday":
            return today - day, today
        case "Tomorrow":
            return tomorrow, tomorrow + day
        case "Last7Days":
            return today - 7 * day, tomorrow
        case "Next7Days":
            return today, tomorrow + 7 * day
        case "On" | "OnOrAfter" | "OnOrBefore":
            given = _moment(one).replace(hour=0, minute=0, second=0, microsecond=0)
            return (
                None if short == "OnOrBefore" else given,
                None if short == "OnOrAfter" else given + day,
            )
    for prefix in ("OlderThanX", "LastX", "NextX"):
        unit = short.removeprefix(prefix)
        if unit != short and unit in _X_UNITS:
            try:
                count = int(str(one))
            except ValueError as error:
                raise bad_request(f"{short} needs a number.") from error
            if prefix == "OlderThanX":
                return None, _moved(now, unit, -count)
            moved = _moved(now, unit, count if prefix == "NextX" else -count)
            return (now, moved) if prefix == "NextX" else (moved, now)
    for unit in ("Week", "Month", "Year"):
        for offset, prefix in ((-1, "Last"), (0, "This"), (1, "Next")):
            if short == prefix + unit:
                start = _start(today, unit)
                begin = _moved(start, f"{unit}s", offset)
                return begin, _moved(begin, f"{unit}s", 1)
    return None


def _start(today: datetime, unit: str) -> datetime:
    match unit:
        case "Week":
            return today - timedelta(days=(today.weekday() + 1) % 7)
        case "Month":
            return today.replace(day=1)
    return today.replace(month=1, day=1)


def _moved(moment: datetime, unit: str, count: int) -> datetime:
    match unit:
        case "Minutes" | "Hours" | "Days" | "Weeks":
            return moment + timedelta(**{unit.lower(): count})
        case "Years":
            count *= 12
    month = moment.year * 12 + moment.month - 1 + count
    year, month = divmod(month, 12)
    for last in (31, 30, 29, 28):
        try:
            return moment.replace(year=year, month=month + 1, day=min(moment.day, last))
        except ValueError:
            continue
    raise bad_request("The time is out of range.")


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(instant(str(value)))

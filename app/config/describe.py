"""Pure: what a caller may do, as a structure and as plain text for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from app.config.model import (
    ApiKeyIdentity,
    BoundName,
    CertificateIdentity,
    Identity,
    ImpersonateAs,
    ImpersonateCallers,
    JwtIdentity,
    Operation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.config.model import Configuration, Grant, Limits, TableRule

_WRITES_COLUMNS = {Operation.CREATE, Operation.UPDATE}


@dataclass(frozen=True, slots=True)
class TableRights:
    """`columns` and `writable_columns`: None for all of them; empty for none."""

    table: str
    operations: tuple[str, ...]
    columns: tuple[str, ...] | None
    writable_columns: tuple[str, ...] | None
    row_filter: str | None


@dataclass(frozen=True, slots=True)
class GrantRights:
    environment: str
    url: str
    applications: tuple[str, ...]
    enforced: bool
    may_hold_dataverse_token: bool
    tables: tuple[TableRights, ...]
    functions: tuple[str, ...]
    actions: tuple[str, ...]
    metadata: str
    impersonates: str | tuple[str, ...]
    """`none`, `as <id>`, or the ids that may be named."""
    headers: tuple[str, ...]
    limits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallerRights:
    caller: str
    description: str
    disabled: bool
    roles: tuple[str, ...]
    identities: tuple[str, ...]
    """In words, without digests."""
    default_environment: str | None
    grants: tuple[GrantRights, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def rights(configuration: Configuration, name: str) -> CallerRights:
    """What the caller of this name may do. Raises `KeyError` for one that there is not."""
    caller = configuration.callers[name]
    return CallerRights(
        caller=name,
        description=caller.description,
        disabled=caller.disabled,
        roles=caller.roles,
        identities=tuple(identity_in_words(identity) for identity in caller.identities),
        default_environment=default_environment(caller.default_environment, caller.grants),
        grants=tuple(
            _grant(grant, configuration.environments[grant.environment].url)
            for grant in caller.grants
        ),
    )


def default_environment(named: str | None, grants: tuple[Grant, ...]) -> str | None:
    """The one for requests that name none: as configured, else the only one that is granted."""
    if named is not None:
        return named
    granted = {grant.environment for grant in grants}
    return granted.pop() if len(granted) == 1 else None


def identity_in_words(identity: Identity) -> str:
    match identity:
        case ApiKeyIdentity(api_key=key):
            until = f"through {key.expires}" if key.expires else "without an end"
            return f"API key {key.sha256[:8]}…, good {until}"
        case JwtIdentity(jwt=match):
            claims = " and ".join(
                f"{claim} = {value if isinstance(value, str) else ' + '.join(value)}"
                for claim, value in match.claims.items()
            )
            return f"JWT of {match.issuer} with {claims}"
        case CertificateIdentity(certificate=certificate):
            return f"client certificate {certificate.san}"


def _grant(grant: Grant, url: str) -> GrantRights:
    match grant.impersonate:
        case ImpersonateAs(as_=user):
            impersonates: str | tuple[str, ...] = f"as {user}"
        case ImpersonateCallers(caller_id=users):
            impersonates = tuple(str(user) for user in users)
        case word:
            impersonates = word
    return GrantRights(
        environment=grant.environment,
        url=url,
        applications=grant.applications,
        enforced=grant.enforce,
        may_hold_dataverse_token=grant.issue_token,
        tables=tuple(_table(table, rule) for table, rule in grant.tables.items()),
        functions=tuple(_operation(name) for name in grant.functions),
        actions=tuple(_operation(name) for name in grant.actions),
        metadata=grant.metadata,
        impersonates=impersonates,
        headers=grant.headers,
        limits=_limits(grant.limits),
    )


def _table(table: str, rule: TableRule) -> TableRights:
    writable = rule.columns if rule.writable_columns is None else rule.writable_columns
    return TableRights(
        table=table,
        operations=tuple(operation.value for operation in rule.operations),
        columns=rule.columns,
        writable_columns=writable if _WRITES_COLUMNS & set(rule.operations) else (),
        row_filter=rule.row_filter,
    )


def _operation(name: str | BoundName) -> str:
    return name if isinstance(name, str) else f"{name.name} on {name.table}"


def _limits(limits: Limits) -> dict[str, Any]:
    return limits.model_dump(exclude_none=True)


# -------------------------------------------------------------------------------- in words


def render(rights: CallerRights) -> str:
    """For a terminal or a mail: plain text, two spaces a level."""
    return "\n".join(_lines(rights))


def _lines(rights: CallerRights) -> Iterator[str]:
    yield rights.caller + (f": {rights.description}" if rights.description else "")
    if rights.disabled:
        yield "  disabled: nothing of the following is open"
    for identity in rights.identities:
        yield f"  known by {identity}"
    for role in rights.roles:
        yield {
            "auditor": "  auditor: may read the audit",
            "operator": "  operator: may see callers and the status of credentials",
        }[role]
    for grant in rights.grants:
        default = " (default)" if grant.environment == rights.default_environment else ""
        application = " or ".join(grant.applications)
        yield f"  in {grant.environment}{default}, {grant.url}, as {application}"
        yield from (f"    {line}" for line in _grant_lines(grant))
    if not rights.grants:
        yield "  no grant: no environment is open"


def _grant_lines(grant: GrantRights) -> Iterator[str]:
    if not grant.enforced:
        yield "not enforced: what the rules do not allow is recorded, and let through"
    if grant.may_hold_dataverse_token:
        yield "may hold the Dataverse token itself, which no rule below can follow"
    for table in grant.tables:
        yield from _table_lines(table)
    for kind, names in (("function", grant.functions), ("action", grant.actions)):
        yield from (f"{kind} {name}" for name in names)
    if grant.metadata != "granted":
        yield f"metadata: {grant.metadata}"
    if grant.impersonates != "none":
        who = grant.impersonates
        if isinstance(who, str):
            yield f"acts {who}"
        else:
            yield f"may act as {', '.join(who)}"
    if grant.headers:
        yield f"headers: {', '.join(grant.headers)}"


def _table_lines(table: TableRights) -> Iterator[str]:
    name = "every other table" if table.table == "*" else table.table
    if not table.operations:
        yield f"{name}: closed"
        return
    yield f"{name}: {', '.join(table.operations)}"
    if "read" in table.operations:
        yield f"  reads {_columns(table.columns)}"
    if _WRITES_COLUMNS & set(table.operations):
        yield f"  writes {_columns(table.writable_columns)}"
    if table.row_filter is not None:
        yield f"  rows where {table.row_filter}"


def _columns(columns: tuple[str, ...] | None) -> str:
    if columns is None:
        return "all columns"
    return ", ".join(columns) or "no column"

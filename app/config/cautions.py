"""Pure: what a configuration allows that its author may not have meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from app.config.model import (
    ApiKeyIdentity,
    BoundName,
    ClientSecretCredential,
    Configuration,
    Grant,
    Operation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from app.config.model import Application, Caller

SECRET_LIFETIME_MAX: Final = timedelta(days=366)
"""Longer, and whoever copied it has it for years (Microsoft advises at most 12 months)."""

EXPIRES_SOON: Final = timedelta(days=30)

FAR_REACHING: Final[dict[str, str]] = {
    # dataverse-reference 3.20: PR-32 to PR-36, and the messages that change rights or code.
    "AddMembersTeam": "gives users the rights of a team",
    "AddToQueue": "moves rows of any table into a queue",
    "AddUserToRecordTeam": "shares rows of any table",
    "Assign": "changes the owner of rows of any table",
    "AssociateEntities": "links rows of any tables",
    "BulkDelete": "deletes rows of any table, later and unseen",
    "BulkDetectDuplicates": "reads rows of any table",
    "CloseIncident": "creates and changes rows of several tables",
    "CommitAnnotationBlocksUpload": "writes whatever its token was made for",
    "CommitAttachmentBlocksUpload": "writes whatever its token was made for",
    "CommitFileBlocksUpload": "writes whatever its token was made for",
    "CreateEntities": "changes the schema",
    "CreateInstance": "creates rows of activity tables",
    "DeleteFile": "deletes any file column by its id",
    "DisassociateEntities": "unlinks rows of any tables",
    "DownloadBlock": "reads whatever its token was made for",
    "ExecuteByIdSavedQuery": "reads the tables of a stored query",
    "ExecuteByIdUserQuery": "reads the tables of a stored query",
    "ExecuteCosmosSqlQuery": "reads any elastic table by SQL",
    "ExecuteWorkflow": "starts a workflow, which may do anything",
    "ExportSolution": "reads schema and code",
    "GrantAccess": "shares rows of any table",
    "GrantAccessUsingSharedLink": "shares rows of any table",
    "ImportSolution": "changes schema and code",
    "InitializeAnnotationBlocksDownload": "reads files of any note",
    "InitializeAnnotationBlocksUpload": "writes files of any note",
    "InitializeAttachmentBlocksDownload": "reads attachments of any e-mail",
    "InitializeAttachmentBlocksUpload": "writes attachments of any e-mail",
    "InitializeFileBlocksDownload": "reads file columns of any table",
    "InitializeFileBlocksUpload": "writes file columns of any table",
    "InitializeFrom": "reads rows of any table as a template",
    "LoseOpportunity": "creates and changes rows of several tables",
    "Merge": "changes and deactivates rows of any table that can be merged",
    "ModifyAccess": "shares rows of any table",
    "PublishAllXml": "changes schema and code",
    "PublishXml": "changes schema and code",
    "RemoveMembersTeam": "takes the rights of a team from users",
    "RetrieveDuplicates": "reads rows of any table",
    "RetrieveMetadataChanges": "reads the whole schema",
    "RetrievePrincipalAccess": "reads rights on rows of any table",
    "RetrieveUnpublishedMultiple": "reads rows of any table that has unpublished ones",
    "RevokeAccess": "changes who shares rows of any table",
    "RevokeSharedLink": "changes who shares rows of any table",
    "SendEmail": "sends an e-mail row that exists",
    "SendEmailFromTemplate": "reads rows of any table and sends them as e-mail",
    "SendTemplate": "reads rows of any table and sends them as e-mail",
    "UploadBlock": "writes whatever its token was made for",
    "WinOpportunity": "creates and changes rows of several tables",
    "searchquery": "reads any table that search indexes",
}

_SKIPS_LOGIC: Final = ("bypass", "suppresscallback")
_WRITES: Final = frozenset(Operation) - {Operation.READ}
_NEEDS_NOTHING: Final = frozenset({"WhoAmI", "RetrieveVersion", "RetrieveCurrentOrganization"})
"""Functions that every user may call, whatever his roles."""


@dataclass(frozen=True, slots=True)
class Caution:
    """`subject` is the caller or application; `code` is stable; `text` names the remedy."""

    code: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


def cautions(configuration: Configuration, *, today: date) -> tuple[Caution, ...]:
    """In the order of the configuration, applications first."""
    return (
        *(
            caution
            for name, application in configuration.applications.items()
            for caution in _of_application(name, application, today)
        ),
        *_of_shared_applications(configuration),
        *(
            caution
            for name, caller in configuration.callers.items()
            for caution in _of_caller(name, caller, today)
        ),
    )


def cautions_of_caller(name: str, caller: Caller, *, today: date) -> tuple[Caution, ...]:
    return tuple(_of_caller(name, caller, today))


def _of_application(name: str, application: Application, today: date) -> Iterator[Caution]:
    for i, credential in enumerate(application.credentials):
        if not isinstance(credential, ClientSecretCredential):
            continue
        which = f"credentials[{i}] is a client secret"
        yield Caution(
            "secret-could-be-certificate",
            name,
            f"{which}: a certificate or a federated credential cannot be copied out of a log",
        )
        expires = credential.expires
        if expires == "graph":
            continue
        if expires is None:
            yield Caution(
                "secret-expiry-unknown",
                name,
                f"{which} without expires (a day, or graph): nobody is warned before it ends",
            )
        elif expires < today:
            yield Caution(
                "secret-expired", name, f"{which} that ended on {expires}: remove it, or renew it"
            )
        elif expires - today > SECRET_LIFETIME_MAX:
            yield Caution(
                "secret-lives-long",
                name,
                f"{which} until {expires}: more than twelve months; make a shorter one",
            )
        elif expires - today <= EXPIRES_SOON:
            yield Caution(
                "secret-expires-soon", name, f"{which} that ends on {expires}: add the next one"
            )


def _of_shared_applications(configuration: Configuration) -> Iterator[Caution]:
    """One application user for several functions: Dataverse's own roles must fit the widest."""
    users: dict[str, dict[_Function, list[str]]] = {}
    for name, caller in configuration.callers.items():
        done: dict[str, set[tuple[str, str, Operation | None]]] = {}
        for grant in caller.grants:
            for application in grant.applications:
                done.setdefault(application, set()).update(_done(grant))
        for application, what in done.items():
            users.setdefault(application, {}).setdefault(frozenset(what), []).append(name)
    for application, functions in users.items():
        if len(functions) > 1:
            names = [name for same in functions.values() for name in same]
            yield Caution(
                "application-shared",
                application,
                f"serves {', '.join(sorted(names))}, who do different things: its Dataverse roles"
                " must fit them all, and Dataverse's own audit cannot tell them apart; an app"
                " registration for each function is safer",
            )


_Function = frozenset[tuple[str, str, Operation | None]]


def _done(grant: Grant) -> Iterator[tuple[str, str, Operation | None]]:
    """What a grant is for, as far as Dataverse's roles go: columns and rows are the broker's."""
    if grant.issue_token:
        yield grant.environment, "the token", None
    for table, rule in grant.tables.items():
        for operation in rule.operations:
            yield grant.environment, table, operation
    for name in (*grant.functions, *grant.actions):
        plain = name.name if isinstance(name, BoundName) else name
        if plain not in _NEEDS_NOTHING:
            yield grant.environment, f"{plain}()", None


def _of_caller(name: str, caller: Caller, today: date) -> Iterator[Caution]:
    if not caller.identities:
        yield Caution("no-identity", name, "has no identity, so nobody can be this caller")
    if not caller.grants and not caller.roles:
        yield Caution("no-grant", name, "has neither a grant nor a role")
    for identity in caller.identities:
        if not isinstance(identity, ApiKeyIdentity):
            continue
        key = f"the API key {identity.api_key.sha256[:8]}…"
        expires = identity.api_key.expires
        if expires is None:
            yield Caution("key-without-expiry", name, f"{key} has no expires: it opens for ever")
        elif expires < today:
            yield Caution("key-expired", name, f"{key} ended on {expires}: remove it")
        elif expires - today <= EXPIRES_SOON:
            yield Caution("key-expires-soon", name, f"{key} ends on {expires}: add the next one")
    for grant in caller.grants:
        for code, text in _of_grant(grant):
            yield Caution(code, name, f"in {grant.environment} {text}")


def _of_grant(grant: Grant) -> Iterator[tuple[str, str]]:
    if grant.issue_token:
        if grant.tables:
            yield (
                "token-beside-table-rules",
                (
                    "issue_token stands beside tables: the token opens everything that the "
                    "application may do, whatever the tables say"
                ),
            )
        else:
            yield "token", "issue_token hands out a token that no rule can follow"
    if not grant.enforce:
        yield "not-enforced", "enforce is false: nothing is refused, only recorded"
    star = grant.tables.get("*")
    if star is not None and (writes := _WRITES & set(star.operations)):
        what = ", ".join(sorted(operation.value for operation in writes))
        yield "star-writes", f"'*' allows {what} on every table that has no entry of its own"
    if grant.metadata == "all":
        yield "metadata-all", "metadata is all: the whole schema can be read"
    for name in (*grant.functions, *grant.actions):
        plain = name.name if isinstance(name, BoundName) else name
        if (reach := FAR_REACHING.get(plain)) is not None:
            yield "reaches-further", f"{plain} {reach}: the tables of this grant do not bound it"
        elif "_" in plain:
            yield (
                "custom-operation",
                f"{plain} is code of your own: the broker cannot see what it reaches",
            )
    for header in grant.headers:
        if any(word in header.lower() for word in _SKIPS_LOGIC):
            yield "skips-logic", f"{header} skips business logic, plug-ins or flows"

"""What one environment makes of one application: its user, his roles, his privileges.

    WhoAmI ─► application user ─► roles ─► tables ─► privileges ─► throttling

What the application may not look at itself is asked as the environment's administrator, where one
is configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.doctor.asking import Refused, Unreached, seen
from app.doctor.finding import several
from app.doctor.needs import needs_of
from app.doctor.privileges import ALL_POWERFUL, judge_privileges, judge_roles
from app.doctor.rights import Rights, privileges_held
from app.path.refused_token import likely_cause

if TYPE_CHECKING:
    from app.config import model
    from app.doctor.asking import Answered, Asker
    from app.doctor.finding import About, Finding
    from app.tokens.lease import Lease

FEW_REQUESTS: Final = 600.0
FEW_SECONDS: Final = 120.0
"""A tenth of what Dataverse grants in five minutes (dataverse-reference 4)."""

DISABLED: Final = (
    "Enable it again if that was no emergency: token-broker app-user enable, or the Power Platform"
    " admin center."
)
CREATE: Final = (
    "Create it: Power Platform admin center, this environment, Settings, Application users, New;"
    " then give it a security role (token-broker roles plan)."
)


@dataclass(slots=True)
class Membership:
    """One application in one environment, step by step. `administrator` asks for what it may
    not see itself.
    """

    about: About
    environment_name: str
    environment: model.Environment
    application: model.Application
    asker: Asker
    lease: Lease
    grants: tuple[tuple[str, int, model.Grant], ...]
    """Caller, the grant's place, and the grant."""
    administrator: Asker | None = None
    is_administrator: bool = False
    alone: bool = True
    """No other application is granted in the environment."""
    user_id: str | None = None
    business_unit: str | None = None
    roles: tuple[str, ...] = ()

    async def examine(self) -> list[Finding]:
        findings, first = await self._who_am_i()
        if self.user_id is None:
            findings += await self._user_by_application_id(first)
            findings += [
                self.about.skipped(step, "Dataverse does not let the application in")
                for step in ("roles", "tables", "privileges", "throttling")
            ]
            return findings
        findings += await self._user()
        findings += await self._roles()
        if self.grants:
            findings += await self._rights()
        assert first is not None
        findings.append(self._throttling(first))
        return findings

    # --------------------------------------------------------------- who am I

    async def _who_am_i(self) -> tuple[list[Finding], Answered | None]:
        try:
            answer = await self.asker.get("WhoAmI")
        except Unreached as error:
            text, remedy = error.detail, "See what the lines of dns and tls say."
            return [self.about.failure("who-am-i", text, remedy, code=error.code)], None
        if answer.refusal is None and isinstance(answer.content, dict):
            self.user_id = str(answer.content.get("UserId"))
            self.business_unit = str(answer.content.get("BusinessUnitId"))
            return [self.about.ok("who-am-i", "Dataverse lets the application in")], answer
        if answer.status == 401:
            likely = likely_cause(self.environment_name, self.lease, answer.headers)
            text = f"Dataverse does not accept the token: {likely.meaning}"
            return [self.about.failure("who-am-i", text, likely.remedy, code=likely.cause)], answer
        refusal = answer.refusal
        assert refusal is not None
        tell = self.about.warning if answer.status == 429 else self.about.failure
        wait = f" Retry-After: {answer.retry_after} s." if answer.retry_after else ""
        return [tell("who-am-i", refusal.says, refusal.remedy + wait, code=refusal.code)], answer

    # ------------------------------------------------------- application user

    async def _user(self) -> list[Finding]:
        select = "fullname,applicationid,isdisabled,accessmode"
        row = await seen(self.askers, f"systemusers({self.user_id})?$select={select}")
        if not isinstance(row, dict):
            return [
                self.about.ok(
                    "application-user",
                    "it is there and enabled, or WhoAmI would not answer; its own row it may not"
                    " see (prvReadUser)",
                )
            ]
        if row.get("isdisabled") is True:
            return [self.about.failure("application-user", "it is disabled", DISABLED)]
        return [self.about.ok("application-user", "it is there and enabled")]

    async def _user_by_application_id(self, first: Answered | None) -> list[Finding]:
        """Why somebody whom Entra knows is nobody here: an administrator sees whether."""
        code = first.refusal.code if first is not None and first.refusal is not None else None
        if code != "0x80072560":
            return [self.about.skipped("application-user", "Dataverse does not say")]
        rows = await self._rows_as_administrator()
        if rows is None:
            return [
                self.about.failure(
                    "application-user",
                    "there is none for this application, or it is disabled",
                    f"{CREATE} If it is there: {DISABLED} (With an administrator configured for"
                    " the environment, the doctor can tell which.)",
                )
            ]
        if not rows:
            return [
                self.about.failure("application-user", "there is none for this application", CREATE)
            ]
        return [self.about.failure("application-user", "it is disabled", DISABLED)]

    # -------------------------------------------------------------- roles

    async def _roles(self) -> list[Finding]:
        row = await seen(
            self.askers,
            f"systemusers({self.user_id})?$select=systemuserid"
            "&$expand=systemuserroles_association($select=name)",
        )
        found = row.get("systemuserroles_association") if isinstance(row, dict) else None
        if not isinstance(found, list):
            return [
                self.about.skipped(
                    "roles",
                    "the application may not see its own security roles",
                    "Add prvReadUser and prvReadRole to its role, or name an administrator for the"
                    " environment.",
                )
            ]
        self.roles = tuple(
            sorted(str(role.get("name")) for role in found if isinstance(role, dict))
        )
        if self.is_administrator:
            text = f"the environment's administrator; security roles: {several(self.roles)}"
            return [self.about.ok("roles", text, names=self.roles)]
        return list(judge_roles(self.about, self.roles))

    # ----------------------------------------------- tables and privileges

    async def _rights(self) -> list[Finding]:
        rights = Rights(
            about=self.about,
            environment=self.environment,
            asker=self.asker,
            grants=self.grants,
            alone=self.alone,
        )
        findings = [await rights.read()]
        if not rights.tables:
            return [*findings, self.about.skipped("privileges", "the schema cannot be read")]
        answer = await seen(
            self.askers,
            f"systemusers({self.user_id})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges",
        )
        held = privileges_held(answer)
        if held is None:
            return [
                *findings,
                self.about.skipped(
                    "privileges",
                    "the application may not see its own privileges",
                    "Add prvReadUser to its role, or name an administrator for the environment.",
                ),
            ]
        mighty = any(role in ALL_POWERFUL for role in self.roles)
        needs = needs_of(rights.compiled(), rights.tables)
        return [*findings, *judge_privileges(self.about, held, needs, mighty=mighty)]

    # ---------------------------------------------------------- throttling

    def _throttling(self, first: Answered) -> Finding:
        left = first.limits_left
        if left.requests is None or left.execution_time_s is None:
            return self.about.ok("throttling", "Dataverse does not say how much is left")
        text = (
            f"{left.requests:.0f} requests and {left.execution_time_s:.0f} s of execution time"
            " are left for these five minutes, on the web server that answered"
        )
        if left.requests < FEW_REQUESTS or left.execution_time_s < FEW_SECONDS:
            return self.about.warning(
                "throttling",
                text,
                "Find who asks so much (token-broker audit report), limit him in his grant, or"
                " spread callers over a pool of applications.",
            )
        return self.about.ok("throttling", text)

    @property
    def askers(self) -> tuple[Asker, ...]:
        """Whoever may see something, in this order."""
        return (self.asker,) if self.administrator is None else (self.asker, self.administrator)

    async def _rows_as_administrator(self) -> list[dict[str, Any]] | None:
        if self.administrator is None:
            return None
        client_id = self.application.client_id
        try:
            return await self.administrator.rows(
                f"systemusers?$select=isdisabled&$filter=applicationid%20eq%20{client_id}"
            )
        except (Unreached, Refused):
            return None

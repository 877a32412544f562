"""What Dataverse's codes mean, and what a person does about them. Pure.

The codes are those of dataverse-reference 4 and 5. Of a message only the names of a privilege and
of a table are read: the rest may hold what stood in a row.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

ERROR_BYTES_MAX = 64 * 1024

_CODE = re.compile(r"0x[0-9A-Fa-f]{8}")
_PRIVILEGE = re.compile(r"(?:is missing |PrivilegeName: )(prv[A-Za-z0-9_]{1,128})")
_TABLE = re.compile(r"for entity '([A-Za-z0-9_]{1,128})'")


class Remedy(NamedTuple):
    meaning: str
    """A clause."""
    remedy: str
    """Sentences for the person who can repair it."""


REMEDIES: dict[str, Remedy] = {
    # ------------------------------------------------ who may come in
    "0x80072560": Remedy(
        "Dataverse knows no enabled application user for this application",
        "Create the application user (Power Platform admin center, or POST systemusers with"
        " applicationid) in this environment and give it a security role; if it is there, somebody"
        " disabled it: enable it again if that was no emergency.",
    ),
    "0x80040220": Remedy(
        "the application user's security roles lack a privilege",
        "Add the privilege to a security role of the application user, in the depth that the rows"
        " need; token-broker roles plan lists what the grants need.",
    ),
    "0x80095ffc": Remedy(
        "the environment's client-application access control does not list this application",
        "Have an administrator of the Power Platform allow the application (its client_id) in the"
        " environment's settings for app access control.",
    ),
    "0x80048306": Remedy(
        "Dataverse denies access",
        "Look at the application user: its security roles, its business unit, its access mode; and"
        " at the environment's own access settings (IP firewall, app access control).",
    ),
    # ------------------------------------------------ how much
    "0x80072322": Remedy(
        "the application user sends too many requests for its service protection limit",
        "Wait for Retry-After. Limit callers in their grants, or spread them over a pool of"
        " application registrations.",
    ),
    "0x80072321": Remedy(
        "the application user's requests take too much execution time for its service protection"
        " limit",
        "Wait for Retry-After. Ask for less at once: fewer columns, smaller batches, fewer requests"
        " in parallel.",
    ),
    "0x80072326": Remedy(
        "the application user has too many requests in flight for its service protection limit",
        "Lower the concurrency of callers in their grants, or spread them over a pool.",
    ),
    # ------------------------------------------------ what is not there
    "0x80040217": Remedy(
        "there is no such row, or the application user may not see it",
        "Check the row's id; where it exists, check the depth of the role's Read privilege.",
    ),
    "0x80060888": Remedy(
        "the environment knows no such table, column or function",
        "Compare the name with the environment's schema: entity sets are plural, names are case"
        " sensitive.",
    ),
    # ------------------------------------------------ what cannot be done
    "0x80040265": Remedy(
        "a plug-in of the environment refused",
        "Ask whoever owns the plug-in; its trace log in Dataverse has the reason.",
    ),
    "0x80044331": Remedy(
        "a value is longer or larger than its column allows",
        "Compare the value with the column's definition.",
    ),
    "0x80044a02": Remedy(
        "the file's type is blocked in this environment",
        "An administrator changes the blocked extensions in the environment's settings.",
    ),
    "0x80090017": Remedy(
        "the file cannot be stored in this column",
        "Check the file's size and type against the column's definition.",
    ),
    "0x80072553": Remedy(
        "the file or image is larger than its column allows",
        "Send a smaller one, or raise the column's maximum size.",
    ),
    "0x80090487": Remedy(
        "the file upload is not complete or its token does not hold",
        "Begin the upload anew.",
    ),
    "0x80040333": Remedy(
        "a duplicate detection rule found the row already",
        "Update the row that is there, or leave duplicate detection off.",
    ),
    "0x80060882": Remedy(
        "the row was changed since it was read",
        "Read it again and repeat the change.",
    ),
}
"""By code, as the Web API writes it."""

BY_STATUS: dict[int, Remedy] = {
    401: Remedy(
        "Dataverse does not accept the token",
        "Check that the environment's url is its own and that the application is registered in the"
        " environment's tenant.",
    ),
    403: REMEDIES["0x80048306"],
    404: Remedy(
        "there is no Web API at this address",
        "Check the environment's url and api_versions.",
    ),
    412: Remedy(
        "the row is not as the condition of the request says",
        "Read it again and repeat the change.",
    ),
    413: Remedy("the request is larger than Dataverse takes", "Send less at once."),
    429: Remedy(
        "Dataverse throttles the application user",
        "Wait for Retry-After, and look for who sends so much.",
    ),
}
"""Where there is no code, or none that is known."""

OTHERWISE = Remedy(
    "Dataverse answers with an error",
    "It may pass by itself; Microsoft's service health page tells of outages.",
)


@dataclass(frozen=True, slots=True)
class DataverseRefusal:
    """One error answer, explained."""

    status: int
    code: str | None
    meaning: str
    remedy: str
    privilege: str | None = None
    """The one that is missing, where Dataverse names it."""
    table: str | None = None
    """Its logical name."""

    @property
    def says(self) -> str:
        where = self.code or f"HTTP {self.status}"
        missing = f" {self.privilege}" if self.privilege else ""
        table = f" on {self.table}" if self.table else ""
        return f"{self.meaning}{':' if missing else ''}{missing}{table} ({where})"


def read_refusal(status: int, body: bytes) -> DataverseRefusal:
    """Explain an error answer, whatever it consists of."""
    code, message = _code_and_message(body)
    known = REMEDIES.get(code or "") or BY_STATUS.get(status) or OTHERWISE
    privilege = _PRIVILEGE.search(message)
    table = _TABLE.search(message)
    return DataverseRefusal(
        status=status,
        code=code,
        meaning=known.meaning,
        remedy=known.remedy,
        privilege=None if privilege is None else privilege[1],
        table=None if table is None else table[1],
    )


def _code_and_message(body: bytes) -> tuple[str | None, str]:
    try:
        content = json.loads(body[:ERROR_BYTES_MAX])
    except (ValueError, RecursionError):
        return None, ""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return None, ""
    code, message = error.get("code"), error.get("message")
    found = _CODE.fullmatch(code) if isinstance(code, str) else None
    return (
        None if found is None else f"0x{found[0][2:].lower()}",
        message if isinstance(message, str) else "",
    )

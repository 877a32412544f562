"""/_sandbox: how a person makes the emulated Dataverse fail, and sees what it was asked.

POST   /_sandbox/faults    {"status": 429, "retry_after_s": 5, "times": 3}
                           {"delay_s": 2}   {"break": "reset", "path": "/accounts"}
GET    /_sandbox/faults    what is in force
DELETE /_sandbox/faults    back to normal
GET    /_sandbox/requests  what arrived, without tokens
DELETE /_sandbox/requests
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from app.sandbox.dataverse.faults import Break, Fault, Faults, answers
from app.sandbox.dataverse.messages import Answer

if TYPE_CHECKING:
    from app.sandbox.dataverse.journal import Journal

PREFIX = "/_sandbox/"
_SHOWN = 200
_SECRET = frozenset({"authorization", "cookie"})


class Controlled(Protocol):
    @property
    def faults(self) -> Faults: ...

    @property
    def journal(self) -> Journal: ...


class Wanted(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A fault as a person writes it; `break` is one of `faults.Break`."""

    status: int | None = None
    retry_after_s: int | None = None
    delay_s: float = 0.0
    times: int | None = 1
    path: str = ""
    method: str = ""
    before: bool = True
    breaks: Break | None = msgspec.field(default=None, name="break")

    def fault(self) -> Fault:
        wanted = Fault(
            delay_s=self.delay_s,
            breaks=self.breaks,
            times=self.times,
            path=self.path,
            method=self.method.upper(),
            before=self.before,
        )
        if self.status is None:
            return wanted
        return replace(wanted, answer=answers(self.status, retry_after_s=self.retry_after_s).answer)


def control(app: Controlled, method: str, path: str, body: bytes) -> Answer:
    match method, path.removeprefix(PREFIX):
        case "POST", "faults":
            try:
                app.faults.add(msgspec.json.decode(body, type=Wanted).fault())
            except msgspec.DecodeError as error:
                return _json({"error": str(error)}, status=400)
            return _json(_in_force(app), status=201)
        case "GET", "faults":
            return _json(_in_force(app))
        case "DELETE", "faults":
            app.faults.clear()
            return Answer(status=204)
        case "GET", "requests":
            return _json(_requests(app))
        case "DELETE", "requests":
            app.journal.clear()
            return Answer(status=204)
    return _json({"error": "unknown; see /_sandbox/faults and /_sandbox/requests"}, status=404)


def _json(content: Any, *, status: int = 200) -> Answer:
    return Answer(
        status=status,
        headers=(("Content-Type", "application/json"),),
        body=msgspec.json.encode(content),
    )


def _in_force(app: Controlled) -> list[dict[str, Any]]:
    return [
        {
            "status": None if f.answer is None else f.answer.status,
            "delay_s": f.delay_s,
            "break": f.breaks,
            "times": f.times,
            "path": f.path,
            "method": f.method,
            "before": f.before,
        }
        for f in app.faults.in_force()
    ]


def _requests(app: Controlled) -> dict[str, Any]:
    return {
        "total": app.journal.total,
        "requests": [
            {
                "at": a.at,
                "method": a.method,
                "target": a.target,
                "headers": [[k, "(hidden)" if k.lower() in _SECRET else v] for k, v in a.headers],
                "body": a.body.decode(errors="replace"),
            }
            for a in list(app.journal)[-_SHOWN:]
        ],
    }

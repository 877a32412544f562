"""/_sandbox at Entra's address: how a person makes it fail, and sees what it was asked.

    POST   /_sandbox/faults/entra      {"fault": "throttled", "retry_after_s": 5, "times": 2}
    GET    /_sandbox/faults            what is in force, by what it befalls
    DELETE /_sandbox/faults            back to normal
    GET    /_sandbox/token-requests    how often Entra was asked, and the last answers

The sandbox is on loopback and guards nothing: whoever reaches these may use them.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from app.sandbox.entra import faults
from app.sandbox.exchange import (
    Answer,
    BodyTooLong,
    Receive,
    Scope,
    Send,
    json_answer,
    read_body,
    respond,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.sandbox.entra.app import EntraApp

PREFIX = "/_sandbox/"

_KINDS: dict[str, Callable[..., faults.Fault]] = {
    "slow": faults.slow,
    "throttled": faults.throttled,
    "throttled-in-prose": faults.throttled_in_prose,
    "unavailable": faults.unavailable,
    "garbage": faults.garbage,
    "refused": faults.refused,
    "dropped": faults.dropped,
    "down": faults.down,
}
_PARAMETERS: dict[str, tuple[type, ...]] = {
    "seconds": (int, float),
    "times": (int,),
    "retry_after_s": (int,),
    "code": (int,),
    "client_id": (str,),
}
_LAST = 50


class ControlApp:
    """`befalls`: the faults of each part, by the name that the address has for it."""

    def __init__(self, *, entra: EntraApp, befalls: Mapping[str, faults.Faults]) -> None:
        self._entra = entra
        self._befalls = befalls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive)
            answer = self._answer(scope["method"], scope["path"].removeprefix(PREFIX), body)
        except BodyTooLong:
            answer = _error(413, "nobody needs that many words")
        await respond(send, answer)

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        match method, path.strip("/").split("/"):
            case "GET", ["faults"]:
                return json_answer(
                    {
                        name: [_told(f) for f in sink.in_force()]
                        for name, sink in self._befalls.items()
                    }
                )
            case "DELETE", ["faults"]:
                for sink in self._befalls.values():
                    sink.clear()
                return json_answer({})
            case "POST", ["faults", part] if part in self._befalls:
                return self._add(self._befalls[part], body)
            case "GET", ["token-requests"]:
                return json_answer(self._token_requests())
            case _:
                parts = ", ".join(self._befalls)
                return _error(404, f"no such address; faults befall: {parts}")

    def _add(self, sink: faults.Faults, body: bytes) -> Answer:
        try:
            told = json.loads(body)
            kind = told.pop("fault")
            fault = _fault(kind, told)
        except (ValueError, TypeError, KeyError, AttributeError):
            kinds = ", ".join(_KINDS)
            return _error(400, f'say {{"fault": KIND, …}}, with what it takes; kinds: {kinds}')
        sink.add(fault)
        return json_answer(_told(fault), status=201)

    def _token_requests(self) -> Any:
        last = deque(self._entra.journal, maxlen=_LAST)
        return {
            "count": self._entra.token_requests,
            "last": [
                {
                    "at": entry.at.isoformat(),
                    "client_id": entry.client_id,
                    "audience": entry.audience,
                    "proof": entry.proof,
                    "status": entry.status,
                    "code": entry.code,
                }
                for entry in last
            ],
        }


def _fault(kind: str, parameters: dict[str, Any]) -> faults.Fault:
    """Raises `KeyError`, `TypeError` or `ValueError` for what cannot be asked for."""
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, _PARAMETERS[name]):
            raise TypeError(name)
        if isinstance(value, int | float) and value < 0:
            raise ValueError(name)
    return _KINDS[kind](**parameters)


def _told(fault: faults.Fault) -> dict[str, Any]:
    return {
        "delay_s": fault.delay_s,
        "status": None if fault.answer is None else fault.answer.status,
        "refuse_with": fault.refuse_with,
        "cut": fault.cut,
        "times": fault.times,
        "client_id": fault.client_id,
        "scene": fault.scene,
    }


def _error(status: int, message: str) -> Answer:
    return json_answer({"error": message}, status=status)

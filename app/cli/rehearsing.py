"""The broker as it is, with a Dataverse that only notes what would have been sent to it.

Policy cases run through everything that a request goes through, from the HTTP parser on, so that
their verdict is the server's. No socket, no token, no disk (docs/decisions/040).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from app.broker import Broker
from app.cli.in_process import ask
from app.cli.outcome import CouldNot
from app.cli.stand_ins import (
    Dataverse,
    Forgetful,
    NotingJudge,
    Patient,
    Surroundings,
    Tokens,
    Unlimited,
    World,
)
from app.config.model import ApiKey, ApiKeyIdentity
from app.errors import Unreadable
from app.identity.authenticator import Authenticator
from app.identity.broker_tokens import BrokerTokens
from app.identity.keys import digest
from app.limits.scheduler import Scheduler
from app.path.carrying import Carrier
from app.path.giving import Giver
from app.path.keyring import new_key, read_keyring
from app.path.recording import Recording
from app.path.sending import Sender
from app.path.standing import stand
from app.telemetry.metrics import Metrics
from app.tokens.lease import fingerprint_of
from app.web.asgi import head_of, send_answer
from app.web.dispatch import Dispatcher
from app.web.problems import problem, status_of
from app.web.proxy import Proxy
from app.web.wired import Door

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config.loaded import Loaded
    from app.path.standing import Standing
    from app.policy.case_format import Case
    from app.policy.case_outcome import Seen
    from app.web.asgi import App, Receive, Scope, Send

_NOBODY: Final = f"dvb_nobody_{'0' * 64}"


class Rehearsal:
    """Cases against one standing; each caller gets a key that exists here only."""

    def __init__(self, standing: Standing) -> None:
        callers = standing.configuration.callers
        self._keys = {name: f"dvb_rehearsal_{digest(name)}" for name in callers}
        schemas = {n: p.schema for n, p in standing.places.items() if p.schema is not None}
        self._standing = stand(_with_keys(standing.loaded, self._keys), schemas)
        self._dataverse = Dataverse()
        self._app = _assembled(self._standing, self._dataverse)

    async def play(self, case: Case) -> Seen:
        """Send the case's request. Raises `CouldNot` for a caller that there is not."""
        environment = self._environment(case)
        case = self.filled(case)
        self._dataverse.expect(case.response.upstream_reply, hidden=case.precheck == "hidden")
        answer = await ask(self._app, self._request(case, environment))
        return replace(answer, sent=tuple(self._dataverse.sent))

    def filled(self, case: Case) -> Case:
        """With its placeholders replaced by what they stand for here."""
        return case.filled(self._placeholders(case, self._environment(case)))

    def _environment(self, case: Case) -> str:
        caller = self._standing.configuration.callers.get(case.caller)
        if caller is None:
            raise CouldNot("no-such-caller", f"{case.id}: no caller {case.caller} is configured")
        if caller.default_environment is not None:
            return caller.default_environment
        if not caller.grants:
            raise CouldNot("no-grant", f"{case.id}: {case.caller} has no grant, so no environment")
        return caller.grants[0].environment

    def _placeholders(self, case: Case, environment: str) -> Mapping[str, str]:
        public = self._standing.configuration.public_url
        upstream = self._standing.configuration.environments[environment].url
        return {
            "PUBLIC": public,
            "HOST": public.partition("://")[2],
            "BASE": f"{public}/environments/{environment}",
            "UP": upstream,
            "UP_ESCAPED": upstream.replace("/", "\\/"),
            "KEY": f"Bearer {self._keys[case.caller]}",
        }

    def _request(self, case: Case, environment: str) -> bytes:
        """Byte for byte as the case has it."""
        target = case.target if case.verbatim else f"/environments/{environment}{case.target}"
        pairs = [*case.header_pairs(), *self._proof(case)]
        body = case.content()
        names = {name.lower() for name, _ in pairs}
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        host = self._standing.configuration.public_url.partition("://")[2].partition("/")[0]
        lines = [f"{case.method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return "\r\n".join([*lines, "", ""]).encode("utf-8") + (body or b"")

    def _proof(self, case: Case) -> list[tuple[str, str]]:
        key = self._keys[case.caller]
        match case.auth:
            case "none":
                return []
            case "wrong":
                return [("Authorization", f"Bearer {_NOBODY}")]
            case "x-api-key":
                return [("X-API-Key", key)]
        own = any(name.lower() == "authorization" for name, _ in case.header_pairs())
        return [] if own else [("Authorization", f"Bearer {key}")]


def _with_keys(loaded: Loaded, keys: Mapping[str, str]) -> Loaded:
    """Known by these keys only: what else proves a caller may ask the network."""
    configuration = loaded.configuration
    callers = {
        name: caller.model_copy(
            update={"identities": (ApiKeyIdentity(api_key=ApiKey(sha256=digest(keys[name]))),)}
        )
        for name, caller in configuration.callers.items()
    }
    return replace(
        loaded, configuration=configuration.model_copy(update={"callers": callers, "issuers": {}})
    )


def _assembled(standing: Standing, dataverse: Dataverse) -> App:
    keyring = read_keyring(new_key())
    metrics = Metrics(version="rehearsal")
    tokens = Tokens()
    authenticator = Authenticator()
    authenticator.reload(standing.loaded)
    broker = Broker(
        world=World(standing, dataverse),
        identity=authenticator,
        judge=NotingJudge(keyring.seals, dataverse),
        carrier=Carrier(Sender(tokens, Scheduler(), metrics)),
        giver=Giver(
            tokens,
            BrokerTokens(keyring.broker_tokens()),
            partial(fingerprint_of, key=keyring.fingerprints()),
        ),
        limits=Unlimited(),
        strangers=Patient(),
        recording=Recording(Forgetful(), metrics, status_of),
        surroundings=Surroundings(),
    )
    door = Door(broker)
    return Dispatcher(
        proxy=Proxy(broker, refusals=door),
        tokens=_elsewhere,
        health=_elsewhere,
        management=_elsewhere,
        refusals=door,
        in_flight=metrics,
    )


async def _elsewhere(scope: Scope, _receive: Receive, send: Send) -> None:
    """What is no address of the Web API has no policy."""
    error = Unreadable("no-such-address", "policy cases are requests to the Web API")
    await send_answer(send, problem(error, request_id=head_of(scope).request_id))

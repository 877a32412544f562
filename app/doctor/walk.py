"""Walks the chain, and stops nowhere early. Read this first.

    configuration ─► each credential: secret, credential
                  ─► each host: dns, tls
                  ─► each application in each environment that grants name:
                     token ─► claims ─► WhoAmI ─► user ─► roles ─► tables ─► privileges ─► limits
                  ─► audit

Where a step fails, those behind it are skipped and say so; everything else is looked at all the
same. Nothing is changed anywhere.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import certifi

from app.doctor.asking import Asker
from app.doctor.choice import choose
from app.doctor.credentials import examine_credentials
from app.doctor.finding import STEPS, About
from app.doctor.membership import Membership
from app.doctor.opening import open_configuration
from app.doctor.reach import Host, examine_host
from app.doctor.record_store import examine_store
from app.doctor.tokens import ask_for_tokens, judge_claims
from app.errors import BrokerError
from app.tokens.credentials import CredentialReader
from app.tokens.lease import Lease
from app.tokens.material import Registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.config import model
    from app.dataverse.client import UpstreamClient
    from app.doctor.choice import Choice, Pair
    from app.doctor.credentials import Readable
    from app.doctor.finding import Finding
    from app.doctor.surroundings import Surroundings
    from app.doctor.tokens import Token

BEHIND_THE_TOKEN = STEPS[STEPS.index("claims") : STEPS.index("audit")]


async def examine(
    config: Path,
    audit_url: str,
    *,
    environment: str | None,
    application: str | None,
    surroundings: Surroundings,
) -> AsyncIterator[Finding]:
    """Findings as they come, in the chain's order. Raises `NothingChosen`."""
    today = surroundings.now().date()
    opened = await asyncio.to_thread(
        lambda: open_configuration(
            About("configuration"),
            config,
            environ=surroundings.environ,
            vault=surroundings.vaults,
            today=today,
        )
    )
    for finding in opened.findings:
        yield finding
    if opened.configuration is not None:
        choice = choose(opened.configuration, environment=environment, application=application)
        examination = Examination(opened.configuration, choice, surroundings)
        try:
            async for finding in examination.examine():
                yield finding
        finally:
            await examination.aclose()
    yield await examine_store(About("audit"), audit_url)


class Examination:
    """One walk through one configuration."""

    def __init__(
        self, configuration: model.Configuration, choice: Choice, surroundings: Surroundings
    ) -> None:
        self._configuration = configuration
        self._choice = choice
        self._around = surroundings
        self._reader = CredentialReader(surroundings.secrets(), surroundings.vaults)
        self._readable: dict[str, list[Readable]] = {}
        self._clients: dict[str, UpstreamClient] = {}
        self._administrators: dict[str, Asker | None] = {}

    async def examine(self) -> AsyncIterator[Finding]:
        for name in self._choice.applications:
            for finding in await self._credentials(name):
                yield finding
        looks = (asyncio.to_thread(self._look, about, host) for about, host in self._hosts())
        for found in await asyncio.gather(*looks):
            for finding in found:
                yield finding
        for pair in self._choice.pairs:
            for finding in await self._pair(pair):
                yield finding

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    # ---------------------------------------------------------- credentials

    async def _credentials(self, name: str) -> list[Finding]:
        findings, self._readable[name] = await examine_credentials(
            About(name),
            self._configuration.applications[name],
            entra=self._around.entra,
            reader=self._reader,
            graph=self._around.graph,
            now=self._around.now(),
        )
        return findings

    # ---------------------------------------------------------------- hosts

    def _hosts(self) -> list[tuple[About, Host]]:
        """Each authority once, then the environments."""
        authorities: dict[Host, list[str]] = {}
        for name in self._choice.applications:
            application = self._configuration.applications[name]
            # MSAL's HTTP client trusts the CAs that certifi brings, not the system's.
            trusted = application.ca_file or Path(certifi.where())
            authorities.setdefault(Host(application.authority, trusted), []).append(name)
        hosts = [(About(f"Entra of {', '.join(who)}"), host) for host, who in authorities.items()]
        for name in self._choice.environments:
            environment = self._configuration.environments[name]
            hosts.append((About(name), Host(environment.url, environment.ca_file)))
        return hosts

    def _look(self, about: About, host: Host) -> list[Finding]:
        return list(examine_host(about, host, environ=self._around.environ, now=self._around.now()))

    # ---------------------------------------------------------------- pairs

    async def _pair(self, pair: Pair) -> list[Finding]:
        about = About(pair.subject)
        application = self._configuration.applications[pair.application]
        environment = self._configuration.environments[pair.environment]
        findings, token = await ask_for_tokens(
            about,
            Registration.of(application),
            self._readable[pair.application],
            resource=environment.url,
            entra=self._around.entra,
        )
        if token is None:
            return [
                *findings,
                *(about.skipped(step, "there is no token") for step in BEHIND_THE_TOKEN),
            ]
        findings += judge_claims(about, token, resource=environment.url, application=application)
        try:
            client = self._client(pair.environment)
        except BrokerError as error:
            return [*findings, about.failure("who-am-i", error.detail, code=error.code)]
        membership = Membership(
            about=about,
            environment_name=pair.environment,
            environment=environment,
            application=application,
            asker=Asker(client, environment, token.hidden),
            lease=_lease(pair, environment, token),
            grants=pair.grants,
            administrator=await self._administrator(pair, client),
            is_administrator=pair.is_administrator,
            alone=self._is_alone(pair),
        )
        return findings + await membership.examine()

    def _client(self, environment: str) -> UpstreamClient:
        if environment not in self._clients:
            config = self._configuration.environments[environment]
            self._clients[environment] = self._around.connect(config)
        return self._clients[environment]

    def _is_alone(self, pair: Pair) -> bool:
        granted = {
            application
            for caller in self._configuration.callers.values()
            for grant in caller.grants
            if grant.environment == pair.environment
            for application in grant.applications
        }
        return granted <= {pair.application}

    async def _administrator(self, pair: Pair, client: UpstreamClient) -> Asker | None:
        """Who sees what the application may not. Its own troubles are told where it is examined."""
        environment = self._configuration.environments[pair.environment]
        name = environment.administrator
        if name is None or pair.is_administrator:
            return None
        if pair.environment in self._administrators:
            return self._administrators[pair.environment]
        if name not in self._readable:
            await self._credentials(name)
        _, token = await ask_for_tokens(
            About(name),
            Registration.of(self._configuration.applications[name]),
            self._readable[name],
            resource=environment.url,
            entra=self._around.entra,
        )
        asker = None if token is None else Asker(client, environment, token.hidden)
        self._administrators[pair.environment] = asker
        return asker


def _lease(pair: Pair, environment: model.Environment, token: Token) -> Lease:
    return Lease.of(
        token.open(),
        expires_on=token.asked_at + timedelta(seconds=token.obtained.lifetime_s),
        resource=environment.url,
        application=pair.application,
    )

"""A way into one environment as one application, or all the reasons why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.doctor.asking import Asker
from app.doctor.credentials import examine_credentials
from app.doctor.finding import About, Level
from app.doctor.tokens import ask_for_tokens
from app.errors import BrokerError
from app.tokens.credentials import CredentialReader
from app.tokens.material import Registration

if TYPE_CHECKING:
    from app.config.model import Configuration
    from app.dataverse.client import UpstreamClient
    from app.doctor.surroundings import Surroundings


class NoWayIn(BrokerError):
    """No token, or no environment that takes it. A line for each reason, with its remedy."""


async def way_in(
    configuration: Configuration,
    *,
    application: str,
    environment: str,
    client: UpstreamClient,
    around: Surroundings,
) -> Asker:
    """Raises `NoWayIn`."""
    about = About(application)
    config = configuration.applications[application]
    place = configuration.environments[environment]
    findings, readable = await examine_credentials(
        about,
        config,
        entra=around.entra,
        reader=CredentialReader(around.secrets(), around.vaults),
        graph=around.graph,
        now=around.now(),
    )
    more, token = await ask_for_tokens(
        about, Registration.of(config), readable, resource=place.url, entra=around.entra
    )
    if token is None:
        reasons = [
            f"{application}: {finding.text}. {finding.remedy or ''}".rstrip()
            for finding in (*findings, *more)
            if finding.level is Level.FAILURE
        ]
        raise NoWayIn("no-way-in", "\n".join(reasons) or f"{application}: there is no token")
    return Asker(client, place, token.hidden)

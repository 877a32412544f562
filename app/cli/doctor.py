"""`token-broker doctor` and `token-broker roles …`: what each takes."""

# ruff: noqa: PLC0415 - as in `main`: imported when it is asked for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.outcome import answering, end

EnvironmentName = Annotated[
    str | None, typer.Option("--environment", metavar="NAME", help="Only this one.")
]
ApplicationName = Annotated[
    str | None, typer.Option("--application", metavar="NAME", help="Only this one.")
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="PATH", help="[BROKER_CONFIG]", exists=True)
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="[BROKER_AUDIT_URL]", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]


def doctor(
    *,
    environment: EnvironmentName = None,
    application: ApplicationName = None,
    config: Config = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chain from the configuration to the record; say what is wrong and what to do.

    Credentials, DNS, TLS, tokens, application users, roles, tables, limits. Changes nothing.
    Exit codes: 0 all is well, 4 there are warnings, 1 something fails.
    """
    with answering(as_json=as_json):
        from app.cli.doctoring import doctor
        from app.cli.settings import read_settings

        settings = read_settings()
        end(
            doctor(
                config or settings.config,
                store or settings.audit_url.get_secret_value(),
                environment=environment,
                application=application,
                as_json=as_json,
            )
        )

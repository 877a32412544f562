"""`token-broker doctor`, `roles …` and `app-user …`: what each takes."""

# ruff: noqa: PLC0415 - as in `main`: imported when it is asked for

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
Depth = Annotated[
    Literal["Basic", "Local", "Deep", "Global"] | None,
    typer.Option("--depth", help="No privilege deeper than this."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]

roles = typer.Typer(help="Security roles of application users.", no_args_is_help=True)
app_user = typer.Typer(
    help="Application users of an environment, as its administrator.", no_args_is_help=True
)

Application = Annotated[str, typer.Argument(help="Its name in the configuration.")]
Place = Annotated[
    str | None, typer.Option("--environment", metavar="NAME", help="Where; if there are several.")
]


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


@roles.command("plan")
def roles_plan(
    *,
    application: Annotated[
        str, typer.Option("--application", metavar="NAME", help="Whose grants are to be met.")
    ],
    environment: Annotated[
        str | None, typer.Option("--environment", metavar="NAME", help="Where; if in several.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="The role's; else made up.")
    ] = None,
    depth: Depth = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write down the security role that is exactly enough for what the grants allow.

    Asks the environment for its tables and privileges, and prints the Web API requests that make
    the role; sends none of them.
    """
    with answering(as_json=as_json):
        from app.cli.planning import plan_role
        from app.cli.settings import read_settings
        from app.doctor.planning import Wish

        end(
            plan_role(
                config or read_settings().config,
                Wish(application, environment, name, depth),
                as_json=as_json,
            )
        )


@app_user.command("list")
def app_user_list(
    *, environment: Place = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Who there is, with state and security roles; those of others too."""
    with answering(as_json=as_json):
        from app.cli.settings import read_settings
        from app.cli.switching import app_users

        app_users(config or read_settings().config, environment, as_json=as_json)


@app_user.command("disable")
def app_user_disable(
    application: Application,
    *,
    environment: Place = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Stop an application at once: Dataverse refuses even the tokens that are out already."""
    _switch(application, environment, config, disabled=True, as_json=as_json)


@app_user.command("enable")
def app_user_enable(
    application: Application,
    *,
    environment: Place = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let it in again."""
    _switch(application, environment, config, disabled=False, as_json=as_json)


def _switch(
    application: str,
    environment: str | None,
    config: Path | None,
    *,
    disabled: bool,
    as_json: bool,
) -> None:
    with answering(as_json=as_json):
        from app.cli.settings import read_settings
        from app.cli.switching import app_user_switch

        app_user_switch(
            config or read_settings().config,
            application,
            environment,
            disabled=disabled,
            as_json=as_json,
        )

"""The commands, and what each takes. What they do is imported only when it is asked for.

So that `--help` and completion answer at once: the broker's own libraries take half a second.
"""

# ruff: noqa: PLC0415 - the reason stands above

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.audit import AsJson, Export, Since, Store, Until, audit, query_of
from app.cli.doctor import app_user, doctor, roles
from app.cli.entry import serve_until_told
from app.cli.outcome import answering, end, say_json

app = typer.Typer(
    name="token-broker",
    help="Holds the app registrations for Microsoft Dataverse: tokens and Web API calls under a"
    " policy, every request on the record.",
    epilog="Settings are environment variables, BROKER_…: docs/settings.md."
    " Exit codes: 0 done, 1 the answer is no, 2 called wrongly, 3 could not be done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: rich's would take as long again as everything else that a command loads.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(help="API keys for callers.", no_args_is_help=True, rich_markup_mode=None)
policy = typer.Typer(
    help="What a policy makes of requests.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="keys")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.command()(doctor)
app.add_typer(roles, name="roles")
app.add_typer(app_user, name="app-user")

Schemas = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        metavar="[ENVIRONMENT=]FILE",
        help="A saved $metadata that stands in for a live schema.",
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="PATH", help="[BROKER_CONFIG]", exists=True)
]


@app.command()
def serve(*, as_json: AsJson = False) -> None:
    """Serve, as the settings say, until SIGTERM or Ctrl-C. --json: log lines as JSON."""
    serve_until_told(as_json=as_json)


@app.command()
def sandbox(
    *,
    state_dir: Annotated[
        Path, typer.Option(help="Where keys, certificates and the record are kept.")
    ] = Path(".sandbox"),
    port: Annotated[int, typer.Option(help="The broker's port; 0: any.", min=0, max=65535)] = 8443,
    entra_port: Annotated[int, typer.Option(help="Entra's; 0: any.", min=0, max=65535)] = 8444,
    environment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PORT]",
            help="An emulated Dataverse environment; the first is contoso=8445 by itself.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show log lines.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start emulated Entra and Dataverse on loopback, with the broker in front, until Ctrl-C."""
    environments = _environments(environment or ["contoso=8445"])
    with answering(as_json=as_json):
        from app.cli.sandboxing import sandbox

        sandbox(
            state_dir=state_dir,
            port=port,
            entra_port=entra_port,
            environments=environments,
            verbose=verbose,
            as_json=as_json,
        )


def _environments(named: list[str]) -> dict[str, int]:
    found = {}
    for text in named:
        name, _, port = text.partition("=")
        if not name or not (port or "0").isdigit() or int(port or 0) > 65535:
            raise typer.BadParameter("a name, or a name and a port: contoso=8445")
        found[name] = int(port or 0)
    return found


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A YAML file or a folder of them. [BROKER_CONFIG]")
    ] = None,
    *,
    schema: Schemas = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave secrets and CA files alone, as in CI.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a configuration can be used, what each caller may do, and what may surprise."""
    files = schema_files(schema)
    with answering(as_json=as_json):
        from app.cli.checking import check

        found = path or _configured()
        end(check(found, schemas=files, offline=offline, strict=strict, as_json=as_json))


def schema_files(named: list[str] | None) -> dict[str | None, Path]:
    """`[ENVIRONMENT=]FILE …`; without an environment, for all that have no other."""
    found: dict[str | None, Path] = {}
    for text in named or ():
        name, equals, file = text.partition("=")
        found[name if equals else None] = Path(file if equals else name)
    return found


def _configured() -> Path:
    from app.cli.settings import read_settings

    return read_settings().config


@keys.command("new")
def keys_new(
    caller: Annotated[str, typer.Argument(help="The caller's name in the configuration.")],
    *,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DAY|never", help="The last day it opens; a year ahead by itself."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key: shown once, with the line that the configuration needs."""
    with answering(as_json=as_json):
        from app.cli.keys import new_key

        new_key(caller, expires=expires, as_json=as_json)


@policy.command("explain")
def policy_explain(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    url: Annotated[
        str, typer.Argument(help="The broker's address, Dataverse's, or accounts?$select=…")
    ],
    *,
    caller: Annotated[str, typer.Option(help="Whose request it is.")],
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'")
    ] = None,
    body: Annotated[str | None, typer.Option(metavar="TEXT|@FILE")] = None,
    config: Config = None,
    schema: Schemas = None,
    as_json: AsJson = False,
) -> None:
    """Say what one request would do, whether it may, and what would be sent. Sends nothing."""
    named = schema_files(schema)
    with answering(as_json=as_json):
        from app.cli.explaining import body_from, explain

        code = explain(
            caller=caller,
            method=method,
            url=url,
            headers=header or (),
            body=body_from(body),
            config=config or _configured(),
            schemas=named,
            as_json=as_json,
        )
        end(code)


@policy.command("test")
def policy_test(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Cases, one a line.", exists=True)
    ],
    *,
    config: Config = None,
    schema: Schemas = None,
    as_json: AsJson = False,
) -> None:
    """Play policy cases and say which do not come out as they say. Nothing is sent."""
    named = schema_files(schema)
    with answering(as_json=as_json):
        from app.cli.casework import run_cases

        found = config or _configured()
        end(run_cases(files, config=found, schemas=named, as_json=as_json))


@policy.command("suggest")
def policy_suggest(
    *,
    caller: Annotated[str, typer.Option(help="Whose grants.")],
    since: Since = None,
    until: Until = None,
    allowed_only: Annotated[
        bool, typer.Option("--allowed-only", help="Leave out what was refused: to tighten.")
    ] = False,
    store: Store = None,
    export: Export = None,
    config: Config = None,
    schema: Schemas = None,
    as_json: AsJson = False,
) -> None:
    """Write the smallest grant that would have allowed what the record holds."""
    named = schema_files(schema)
    wanted = query_of(caller=caller, since=since, until=until)
    with answering(as_json=as_json):
        from app.cli.suggesting import suggest_grants

        suggest_grants(
            wanted,
            config=config or _configured(),
            schemas=named,
            store=store,
            export=export,
            allowed_only=allowed_only,
            as_json=as_json,
        )


@app.command()
def migrate(
    *,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Bring the record's tables up to this program."""
    with answering(as_json=as_json):
        from app.audit.offline import migrate_at
        from app.cli.store import audit_url

        steps = migrate_at(audit_url(store))
        if as_json:
            say_json({"steps": steps})
        else:
            done = f"{steps} step{'' if steps == 1 else 's'} taken" if steps else "up to date"
            typer.echo(f"The record's tables: {done}")


@app.command()
def openapi(*, as_json: AsJson = False) -> None:
    """The description of every address, as openapi/openapi.yaml has it; --json: as JSON."""
    with answering(as_json=as_json):
        from app.web.openapi.document import openapi_json, render_openapi

        typer.echo(openapi_json().decode() if as_json else render_openapi(), nl=as_json)


@app.command()
def version(*, as_json: AsJson = False) -> None:
    """The version of this program, and of the Python that runs it."""
    import platform
    from importlib.metadata import version

    found = {"version": version("dataverse-token-broker"), "python": platform.python_version()}
    if as_json:
        say_json(found)
    else:
        typer.echo(f"token-broker {found['version']}, Python {found['python']}")

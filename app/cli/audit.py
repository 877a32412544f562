"""`token-broker audit …`: what each command takes."""

# ruff: noqa: PLC0415 - as in `main`: imported when it is asked for

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.outcome import answering, end, say_json
from app.cli.times import moment

if TYPE_CHECKING:
    from app.audit.query import Query

audit = typer.Typer(
    help="The record: who touched what, and whether it holds.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="[BROKER_AUDIT_URL]", show_default=False),
]
Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="FILE", exists=True, help="JSON lines instead of a store."),
]
Caller = Annotated[str | None, typer.Option("--caller", metavar="NAME")]
Environment = Annotated[str | None, typer.Option("--environment", metavar="NAME")]
Application = Annotated[str | None, typer.Option("--application", metavar="NAME")]
TableName = Annotated[str | None, typer.Option("--table", metavar="NAME", help="As in a URL.")]
Operation = Annotated[
    Literal["read", "create", "update", "delete", "append_to", "assign"] | None,
    typer.Option("--operation", help="Of the table, if both are given."),
]
Decision = Annotated[Literal["allowed", "refused", "error"] | None, typer.Option("--decision")]
Since = Annotated[
    str | None, typer.Option("--from", metavar="WHEN", help="2026-11-24, …T06:30Z, 12h, 7d.")
]
Until = Annotated[str | None, typer.Option("--to", metavar="WHEN", help="Not included.")]


def query_of(*, since: str | None = None, until: str | None = None, **given: object) -> Query:
    from app.audit.query import LIMIT_MAX, Query

    now = datetime.now(UTC)
    try:
        given["since"] = None if since is None else moment(since, now=now)
        given["until"] = None if until is None else moment(until, now=now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    given.setdefault("limit", LIMIT_MAX)
    return Query(**given)  # type: ignore[arg-type]  # named as the options are


@audit.command()
def query(
    *,
    caller: Caller = None,
    environment: Environment = None,
    application: Application = None,
    action: Annotated[Literal["token", "proxy", "admin"] | None, typer.Option()] = None,
    table: TableName = None,
    operation: Operation = None,
    decision: Decision = None,
    status: Annotated[int | None, typer.Option(min=100, max=599)] = None,
    request_id: Annotated[str | None, typer.Option(metavar="ID")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Records that answer every filter, newest first."""
    wanted = query_of(
        caller=caller,
        environment=environment,
        application=application,
        action=action,
        table=table,
        operation=operation,
        decision=decision,
        status=status,
        request_id=request_id,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    with answering(as_json=as_json):
        from app.cli.records import query

        query(wanted, store=store, as_json=as_json)


@audit.command()
def tail(
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000)] = 20,
    caller: Caller = None,
    environment: Environment = None,
    table: TableName = None,
    decision: Decision = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """The last records, oldest first. --json: one a line."""
    wanted = query_of(
        caller=caller, environment=environment, table=table, decision=decision, limit=lines
    )
    with answering(as_json=as_json):
        from app.cli.records import tail

        tail(wanted, store=store, follow=follow, as_json=as_json)


@audit.command()
def report(
    *,
    caller: Caller = None,
    environment: Environment = None,
    table: TableName = None,
    since: Since = None,
    until: Until = None,
    store: Store = None,
    export: Export = None,
    as_json: AsJson = False,
) -> None:
    """Who read or wrote which table, by day: a table and a chart."""
    wanted = query_of(caller=caller, environment=environment, table=table, since=since, until=until)
    with answering(as_json=as_json):
        from app.cli.reporting import report

        report(wanted, store=store, export=export, as_json=as_json)


@audit.command()
def verify(
    *,
    store: Store = None,
    export: Export = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", exists=True, help="Public keys; this broker's by itself."),
    ] = None,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", exists=True, help="Checkpoints that were kept elsewhere."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that nothing was removed, altered, reordered or inserted, or say where."""
    with answering(as_json=as_json):
        from app.cli.verifying import verify_record

        code = verify_record(
            store=store, export=export, keys=key or (), anchors=anchor or (), as_json=as_json
        )
        end(code)


@audit.command("export")
def export_(
    *,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout.")
    ] = None,
    caller: Caller = None,
    environment: Environment = None,
    table: TableName = None,
    since: Since = None,
    until: Until = None,
    store: Store = None,
    export: Export = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
) -> None:
    """Write the record out: JSON lines that verify, or CSV for people (which may be filtered)."""
    wanted = query_of(caller=caller, environment=environment, table=table, since=since, until=until)
    with answering(as_json=as_json):
        from app.cli.exporting import export_record

        export_record(
            wanted,
            store=store,
            export=export,
            form="jsonl" if as_json else form,
            output=output,
        )


@audit.command()
def keys(*, as_json: AsJson = False) -> None:
    """The public keys of this broker's checkpoints, for whoever verifies elsewhere."""
    with answering(as_json=as_json):
        from app.audit.keys import key_id
        from app.cli.outcome import CouldNot
        from app.cli.verifying import own_keys, public_pem

        found = own_keys()
        if not found:
            raise CouldNot(
                "signing-key-missing",
                "no signing key: set BROKER_SIGNING_KEY_FILE or BROKER_STATE_DIR as the broker has",
            )
        if as_json:
            say_json([{"kid": key_id(key), "pem": public_pem([key])} for key in found])
        else:
            typer.echo(public_pem(found), nl=False)

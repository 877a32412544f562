"""`token-broker check`: whether a configuration can be used, and what it allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from app.cli.outcome import ExitCode, say_json
from app.config.cautions import cautions
from app.config.describe import render, rights
from app.config.loading import load, problems_at
from app.config.problems import ConfigurationError, Problem, nearest
from app.errors import Misconfigured
from app.path.standing import GrantsInvalid, Standing, stand
from app.path.world import read_schema_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from app.config.cautions import Caution
    from app.config.loaded import Loaded
    from app.schema.model import Schema


SchemaFiles = Mapping[str | None, Path]
"""Files that stand in for live schemas, by environment; None: for all that have no other."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`standing` is None where there are problems."""

    problems: tuple[Problem, ...]
    standing: Standing | None = None

    @property
    def unseen(self) -> tuple[str, ...]:
        """Environments whose schema is live, so that columns were not compared with it."""
        if self.standing is None:
            return ()
        return tuple(n for n, place in self.standing.places.items() if place.schema is None)


def check(
    path: Path, *, schemas: SchemaFiles, offline: bool, strict: bool, as_json: bool
) -> ExitCode:
    checked = checked_configuration(path, schemas=schemas, offline=offline)
    today = datetime.now(UTC).date()
    if as_json:
        say_json(_as_json(checked, today))
    else:
        _show(checked, today)
    if checked.standing is None:
        return ExitCode.NO
    found = cautions(checked.standing.configuration, today=today)
    return ExitCode.NO if strict and found else ExitCode.DONE


def checked_configuration(path: Path, *, schemas: SchemaFiles, offline: bool) -> Checked:
    """Load and compile, as the broker would before it swaps a configuration in."""
    try:
        loaded = load(path, offline=offline, vault=None if offline else _vault())
    except ConfigurationError as error:
        return Checked(error.problems)
    environments = loaded.configuration.environments
    for name in schemas:
        if name is not None and name not in environments:
            message = f"--schema {name}=…: no such environment{nearest(name, environments)}"
            return Checked((Problem(path, None, message),))
    read: dict[str, Schema] = {}
    problems: list[Problem] = []
    for name, environment in environments.items():
        pinned = environment.schema_
        file = schemas.get(name) or (schemas.get(None) if pinned == "live" else pinned.file)
        if file is None:
            continue
        try:
            read[name] = read_schema_file(file)
        except Misconfigured as error:
            place = ("environments", name, "schema")
            problems += problems_at(loaded, [(place, error.detail)])
    return Checked(tuple(problems)) if problems else _compiled(loaded, read)


def _compiled(loaded: Loaded, schemas: Mapping[str, Schema]) -> Checked:
    try:
        standing = stand(loaded, schemas)
    except GrantsInvalid as invalid:
        found = invalid.problems
    else:
        found = standing.problems
        if not found:
            return Checked((), standing)
    return Checked(problems_at(loaded, [(p.place, p.message) for p in found]))


def _vault() -> Any:
    # Asked only where a reference leads to a vault; its libraries are an extra.
    from app.tokens.key_vault import KeyVaults  # noqa: PLC0415

    return KeyVaults()


# ------------------------------------------------------------------------- shown


def _show(checked: Checked, today: date) -> None:
    console = Console(highlight=False, soft_wrap=True)
    standing = checked.standing
    if standing is None:
        for problem in checked.problems:
            console.print(Text.assemble(("problem  ", "bold red"), str(_from_here(problem))))
        count = len(checked.problems)
        console.print(f"\n[bold red]{count} problem{'s' if count > 1 else ''}[/]: not usable")
        return
    configuration = standing.configuration
    for name in configuration.callers:
        first, *rest = render(rights(configuration, name)).splitlines()
        console.print(Text(first, style="bold cyan"))
        console.print(Text("\n".join(rest) + "\n"))
    found = cautions(configuration, today=today)
    for caution in found:
        console.print(Text.assemble(("warning  ", "bold yellow"), str(caution)))
    for name in checked.unseen:
        text = f"{name}: its schema is live; --schema {name}=FILE compares names with a saved one"
        console.print(Text.assemble(("note     ", "bold blue"), text))
    console.print(Text.assemble(("\nusable", "bold green"), _counted(configuration, found)))


def _from_here(problem: Problem) -> Problem:
    """With its file as it is seen from the working directory, where it lies below."""
    here = Path.cwd()
    if not problem.file.is_relative_to(here):
        return problem
    return Problem(problem.file.relative_to(here), problem.line, problem.message)


def _counted(configuration: Any, found: Sequence[Caution]) -> str:
    def many(number: int, word: str) -> str:
        return f"{number} {word}{'' if number == 1 else 's'}"

    return (
        f": {many(len(configuration.callers), 'caller')},"
        f" {many(len(configuration.environments), 'environment')},"
        f" {many(len(configuration.applications), 'application')},"
        f" {many(len(found), 'warning')}"
    )


def _as_json(checked: Checked, today: date) -> dict[str, Any]:
    standing = checked.standing
    answer: dict[str, Any] = {
        "usable": standing is not None,
        "problems": [
            {"file": str(p.file), "line": p.line, "message": p.message} for p in checked.problems
        ],
    }
    if standing is not None:
        configuration = standing.configuration
        answer["warnings"] = [
            {"code": c.code, "subject": c.subject, "text": c.text}
            for c in cautions(configuration, today=today)
        ]
        answer["schemas_not_compared"] = list(checked.unseen)
        answer["callers"] = [
            rights(configuration, name).as_json() for name in configuration.callers
        ]
    return answer

"""`token-broker roles plan`: the role that is exactly enough, and the requests that make it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from app.cli.doctoring import paper, surroundings
from app.cli.outcome import ExitCode, say_json
from app.config.loading import load
from app.doctor.finding import several
from app.doctor.planning import plan
from app.doctor.role_plan import calls
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from app.doctor.planning import Wish
    from app.doctor.role_plan import Call, Place, RolePlan


def plan_role(config: Path, wish: Wish, *, as_json: bool) -> ExitCode:
    """Raises `BrokerError` with every reason why nothing can be planned."""
    configure(level="ERROR", form="console")
    role, place = asyncio.run(_planned(config, wish))
    written = calls(role, place)
    if as_json:
        say_json(as_document(role, written))
    else:
        _show(role, written, paper())
    return ExitCode.NO if role.unknown else ExitCode.DONE


async def _planned(config: Path, wish: Wish) -> tuple[RolePlan, Place]:
    around = surroundings()
    try:
        loaded = await asyncio.to_thread(
            lambda: load(config, vault=around.vaults, may_stay_unread=lambda _: True)
        )
        return await plan(loaded.configuration, wish, around)
    finally:
        await around.aclose()


def as_document(role: RolePlan, written: Sequence[Call]) -> dict[str, Any]:
    return {
        "role": role.name,
        "application": role.application,
        "environment": role.environment,
        "privileges": [
            {
                "name": privilege.name,
                "id": privilege.id,
                "depth": privilege.depth,
                "table": privilege.table,
                "for": list(privilege.why),
            }
            for privilege in role.privileges
        ],
        "not_in_this_environment": list(role.unknown),
        "cannot_be_seen": list(role.unseen),
        "not_told_by_grants": list(role.untold),
        "calls": [call.as_json() for call in written],
    }


def _show(role: RolePlan, written: Sequence[Call], console: Console) -> None:
    console.print(Text(f"{role.name}: for {role.application} in {role.environment}", "bold cyan"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("table", "privilege", "depth", "for"):
        table.add_column(heading, no_wrap=True)
    for privilege in role.privileges:
        table.add_row(
            privilege.table or "", privilege.name, privilege.depth, several(privilege.why, shown=3)
        )
    console.print(table)
    for line in _notes(role):
        console.print(Text.assemble(("note  ", "bold yellow"), line))
    console.print(Text("\nSend these as an administrator; nothing was sent:", style="bold"))
    for call in written:
        console.print(Text(f"\n# {call.why}", style="dim"))
        console.print(Text(f"{call.method} {call.url}"))
        if call.content is not None:
            console.print(Text("Content-Type: application/json"))
            console.print(Text("\n" + _written(call.content)))


def _written(content: dict[str, Any]) -> str:
    """As JSON, a privilege a line."""
    members = [f"  {json.dumps(name)}: {_value(value)}" for name, value in content.items()]
    return "{\n" + ",\n".join(members) + "\n}"


def _value(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in value) + "\n  ]"


def _notes(role: RolePlan) -> list[str]:
    notes = []
    if role.unknown:
        notes.append(f"this environment has no privilege {several(role.unknown)}")
    if role.unseen:
        notes.append(
            f"what {several(role.unseen)} need of Dataverse cannot be seen from here: try them with"
            " this role, and add what Dataverse says is missing"
        )
    if role.untold:
        notes.append(
            f"{several(role.untold)} may do more than the rules say (the raw token, or not"
            " enforced): what that takes is not in here"
        )
    return notes

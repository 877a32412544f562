"""`token-broker app-user …`: who there is in an environment, and the switch that stops one."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table
from rich.text import Text

from app.cli.doctoring import paper, surroundings
from app.cli.outcome import say_json
from app.config.loading import load
from app.doctor.application_users import list_users, switch_user
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from app.config.model import Configuration
    from app.doctor.surroundings import Surroundings

T = TypeVar("T")


def app_users(config: Path, environment: str | None, *, as_json: bool) -> None:
    users = _done(config, lambda c, around: list_users(c, environment, around))
    if as_json:
        say_json([asdict(user) for user in users])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("application", "name", "client id", "state", "security roles"):
        table.add_column(heading, overflow="fold")
    for user in users:
        state = Text("disabled", "bold red") if user.disabled else Text("enabled", "green")
        table.add_row(
            user.application or "", user.name, user.client_id, state, ", ".join(user.roles)
        )
    paper().print(table)


def app_user_switch(
    config: Path, application: str, environment: str | None, *, disabled: bool, as_json: bool
) -> None:
    user = _done(
        config,
        lambda c, around: switch_user(
            c, application, environment, disabled=disabled, around=around
        ),
    )
    if as_json:
        say_json(asdict(user))
        return
    state = "disabled: Dataverse refuses its tokens from now on" if disabled else "enabled"
    paper().print(f"{application} ({user.name}) is {state}")


def _done(config: Path, work: Callable[[Configuration, Surroundings], Awaitable[T]]) -> T:
    configure(level="ERROR", form="console")

    async def run() -> T:
        around = surroundings()
        try:
            loaded = await asyncio.to_thread(
                lambda: load(config, vault=around.vaults, may_stay_unread=lambda _: True)
            )
            return await work(loaded.configuration, around)
        finally:
            await around.aclose()

    return asyncio.run(run())

"""How the demo shows what happens: a panel a step, with the request, the answer and the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 88
"""A longer target or detail is cut: the demo is read, not copied."""

_COLOURS = {"allowed": "green", "refused": "red", "error": "yellow"}


@dataclass(slots=True)
class Scene:
    """One step, while it is played."""

    number: int
    title: str
    who: str
    why: str
    lines: list[RenderableType] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def asks(self, method: str, target: str, *, body: Any = None, caller: str = "") -> None:
        line = Text.assemble((f"{method} ", "bold magenta"), cut(unquote(target)))
        if caller and caller != self.who:
            line.append(f"  (as {caller})", style="cyan")
        self.lines.append(line)
        if body is not None:
            self.shows(Text(cut(json.dumps(body, ensure_ascii=False)), style="dim"))

    def answers(self, status: int, decision: str | None, said: str = "") -> None:
        line = Text(str(status), style=f"bold {_colour(status)}")
        if decision is None:
            line.append("  Dataverse itself", style="not bold dim")
        else:
            line.append(f"  {decision}", style=f"not bold {_COLOURS.get(decision, 'white')}")
        if said:
            line.append(f"  {said}", style="not bold default")
        # A grid, so that what is too long for a line goes on under its own beginning.
        answer = Table.grid(padding=(0, 1))
        answer.add_row(Text("  ↳", style="dim"), line)
        self.lines.append(answer)

    def shows(self, what: RenderableType) -> None:
        self.lines.append(Padding(what, (0, 0, 0, 5)))

    def expect(self, fulfilled: object, otherwise: str) -> None:
        """What must hold; the demo ends with exit code 1 where it does not."""
        if not fulfilled:
            self.unexpected.append(otherwise)
            self.lines.append(Text(f"  ✗  {otherwise}", style="bold red"))


def panel(scene: Scene) -> Panel:
    good = not scene.unexpected
    return Panel(
        Group(*scene.lines, Text(), Text(scene.why, style="italic dim")),
        title=Text.assemble((f" {scene.number} · {scene.title} ", "bold")),
        title_align="left",
        subtitle=Text(f" {scene.who} ", style="cyan"),
        subtitle_align="right",
        border_style="blue" if good else "red",
        padding=(1, 2),
    )


def rows(names: tuple[str, ...], values: list[tuple[Any, ...]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in values:
        table.add_row(*(Text("" if v is None else str(v)) for v in row))
    return table


def cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"


def _colour(status: int) -> str:
    return "green" if status < 400 else "red" if status < 500 else "yellow"


def opening(console: Console, base_url: str) -> None:
    console.print(
        Panel(
            Text.assemble(
                ("Dataverse Token Broker\n", "bold"),
                "A working day in front of an emulated Entra and an emulated Dataverse.\n"
                "Everything listens on loopback over TLS; nothing leaves this machine.\n\n"
                "Where a service would have Dataverse's URL, it has the broker's:\n",
                (base_url, "cyan"),
            ),
            border_style="green",
            padding=(1, 2),
        )
    )


def console_of(width: int = 100) -> Console:
    """As wide as the terminal; where there is none, wide enough for a request's line."""
    console = Console()
    return console if console.is_terminal else Console(width=width)

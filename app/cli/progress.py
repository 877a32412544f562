"""Long work shows how far it is: on stderr, and only where a person looks at it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

EVERY = 5_000
"""Between two updates: drawing costs more than most of what is counted."""


def counted(items: Iterable[T], what: str) -> Iterator[T]:
    """The same items; their number is shown while they pass."""
    if not sys.stderr.isatty():
        yield from items
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} {task.description}"),
        TextColumn("[dim]{task.speed:,.0f}/s[/]", justify="right"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=None)
        for number, item in enumerate(items, 1):
            yield item
            if number % EVERY == 0:
                progress.update(task, completed=number)

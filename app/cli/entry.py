"""What the script `token-broker` runs: the command line, or the broker without it.

A broker has one argument or two and runs for months: the command line's library would take 6 MiB
of its memory and some of its start for them.
"""

# ruff: noqa: PLC0415 - the reason stands above, and in `main`

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from app.cli.outcome import answering, end

if TYPE_CHECKING:
    from collections.abc import Iterator

UNUSED = ("rich", "watchfiles")
"""What structlog looks for, to print tracebacks, and uvicorn, to begin anew when code changes.
Neither is ever done here, and both can do without: 5 MiB.
"""


def main() -> None:
    match sys.argv[1:]:
        case ["serve"]:
            serve_until_told(as_json=False)
        case ["serve", "--json"]:
            serve_until_told(as_json=True)
        case _:
            from app.cli.main import app

            app()


def serve_until_told(*, as_json: bool) -> None:
    """The command `serve`. Ends with its exit code."""
    with answering(as_json=as_json):
        with _not_there(UNUSED):
            from app.cli.serving import serve
        from app.cli.settings import read_settings

        settings = read_settings()
        if as_json:
            settings = settings.model_copy(update={"log_format": "json"})
        end(serve(settings))


@contextlib.contextmanager
def _not_there(libraries: tuple[str, ...]) -> Iterator[None]:
    """Whoever looks for them meanwhile finds that they are not installed."""
    hidden = [name for name in libraries if name not in sys.modules]
    # None is how Python itself remembers that there is no such module (import system, 5.3.1).
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]

"""Log lines for operators: one event name and its fields, as JSON or for a terminal.

Other people's logs go through the same pipe, quieter: URLs and filter values stand in httpx's
INFO lines, in uvicorn's access log and in the messages of exceptions, so none of these is let
through (design: "Other people's logs").
"""

from __future__ import annotations

import logging
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType

    from structlog.typing import EventDict, WrappedLogger

QUIET: Final = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.INFO,
    "uvicorn.asgi": logging.WARNING,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpcore2": logging.WARNING,
    "msal": logging.WARNING,
    "urllib3": logging.WARNING,
    "azure": logging.WARNING,
    "asyncio": logging.WARNING,
}
"""From which level on other people's loggers are heard, however talkative ours is."""

_FRAMES_MAX: Final = 12
_CAUSES_MAX: Final = 5


def where_raised(failure: BaseException) -> list[str]:
    """The frames of an exception and of its causes, innermost last, without a single message.

    Messages of exceptions quote what they stumbled over, and that may be a filter value or a
    body; local variables even more so. File, line and function are ours.
    """
    lines: list[str] = []
    seen: BaseException | None = failure
    for _ in range(_CAUSES_MAX):
        if seen is None:
            break
        frames = _frames(seen.__traceback__)
        lines[:0] = [*frames[-_FRAMES_MAX:], type(seen).__qualname__]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return lines


def _frames(traceback: TracebackType | None) -> list[str]:
    found: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        path = "/".join(PurePath(code.co_filename).parts[-3:])
        found.append(f"{path}:{traceback.tb_lineno} {code.co_qualname}")
        traceback = traceback.tb_next
    return found


def _exceptions_without_messages(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    failure = info[1] if isinstance(info, tuple) else info
    if isinstance(failure, BaseException):
        event["error"] = type(failure).__qualname__
        event["where"] = where_raised(failure)
    event.pop("exception", None)
    event.pop("stack", None)
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode("utf-8")


def _names_no_target(record: logging.LogRecord) -> bool:
    """Uvicorn writes the path and query of a refused WebSocket upgrade to its error log."""
    return "WebSocket" not in str(record.msg)


def _renderer(form: Literal["json", "console"], *, colors: bool) -> Callable[..., Any]:
    if form == "json":
        return _render_json
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_no_exception)


def _no_exception(_stream: TextIO, _info: Any) -> None:
    """Exceptions have become fields before the renderer sees them."""


def configure(
    *,
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    form: Literal["json", "console"],
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the root logger of this process, once, at start.

    Lines go to stderr: the command line's own answers are on stdout. uvicorn must be started
    with `log_config=None`, or it puts its own handlers back.
    """
    output = stream or sys.stderr
    shared: list[Callable[[Any, str, MutableMapping[str, Any]], Any]] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exceptions_without_messages,
    ]
    structlog.configure(
        processors=[*shared, _renderer(form, colors=output.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.addFilter(_names_no_target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(form, colors=output.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name, threshold in QUIET.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(threshold, logging.getLevelNamesMapping()[level]))
    logging.getLogger("uvicorn").handlers.clear()
    # hasHandlers() is what uvicorn asks before it formats a line for each request.
    logging.getLogger("uvicorn.access").propagate = False

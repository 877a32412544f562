"""YAML text to a tree in which each value knows its file and line.

Built from the parser's events, not by a YAML loader: a loader forgets lines, takes the last of
two equal keys, obeys tags, and recurses as deep as the text tells it to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from app.config.problems import ConfigurationError, Problem
from app.config.words import FileText

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""Some ten thousand callers. A bigger file is a mistake, and would stop the reload for minutes."""
DEPTH_MAX: Final = 32
NODES_MAX: Final = 500_000
"""Counted with every alias written out, so that a few lines cannot stand for a billion."""

_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """A value and where it stands. `content` is a dict, a list, or what the scalar means."""

    file: Path
    line: int
    content: Any
    size: int = 1
    height: int = 0

    def plain(self) -> Any:
        """The same without places: what the model validates."""
        if isinstance(self.content, dict):
            return {key: entry.value.plain() for key, entry in self.content.items()}
        if isinstance(self.content, list):
            return [item.plain() for item in self.content]
        return self.content

    def at(self, path: tuple[str | int, ...]) -> Node:
        """The deepest node that the path leads to: an error may name what is not there."""
        node = self
        for step in path:
            if isinstance(node.content, dict) and step in node.content:
                node = node.content[step].value
            elif isinstance(node.content, list) and isinstance(step, int):
                if step >= len(node.content):
                    break
                node = node.content[step]
            else:
                break
        return node

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """The line of the last step's key where it has one, else of the value."""
        *to, last = path or ("",)
        holder = self.at(tuple(to))
        if isinstance(holder.content, dict) and last in holder.content:
            return int(holder.content[last].line)
        return self.at(path).line

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        return Problem(self.at(path).file, self.line_of(path), message)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping: the line it stands on, and its value."""

    line: int
    value: Node


def parse_document(text: bytes, file: Path) -> Node:
    """The one mapping that the file holds. Raises `ConfigurationError`."""
    if len(text) > DOCUMENT_BYTES_MAX:
        raise _error(file, None, f"is larger than {DOCUMENT_BYTES_MAX} bytes")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _error(file, line, "is not UTF-8") from None
    try:
        root = _Reader(file).read(decoded)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Never str(error): it quotes the text around, which may be a secret in the wrong place.
        what = error.problem or error.context or "cannot be read"
        raise _error(file, mark.line + 1 if mark else None, f"is no YAML: {what}") from None
    except yaml.YAMLError:
        raise _error(file, None, "is no YAML: it holds characters that YAML forbids") from None
    if root is None or root.content is None:
        return Node(file, 1, {})
    if not isinstance(root.content, dict):
        raise _error(file, root.line, "must be a mapping: public_url, applications, callers, …")
    return root


def _error(file: Path, line: int | None, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(file, line, message)])


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet, and the key that waits for its value."""

    node: Node
    anchor: str | None
    key: tuple[str, int] | None = None


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._folder = file.parent
        self._resolver = Resolver()
        self._constructor = SafeConstructor()
        self._anchors: dict[str, Node] = {}
        self._stack: list[_Open] = []
        self._nodes = 0
        self._root: Node | None = None
        self._repeated: list[Problem] = []

    def read(self, text: str) -> Node | None:
        documents = 0
        for event in yaml.parse(text, Loader=_PARSER):
            mark = event.start_mark
            line = mark.line + 1 if mark is not None else 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _error(self._file, line, "holds a second document (---): one is read")
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._refuse_tag(event.tag, line)
                content: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._open(Node(self._file, line, content), event.anchor)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                closed = self._stack.pop()
                self._complete(closed.node, closed.anchor)
            elif isinstance(event, yaml.AliasEvent):
                aliased = self._aliased(event.anchor or "", line)
                self._place(aliased, line, weight=aliased.size)
            elif isinstance(event, yaml.ScalarEvent):
                self._refuse_tag(event.tag, line)
                node = Node(self._file, line, self._scalar(event, line))
                self._complete(node, event.anchor)
        if self._repeated:
            raise ConfigurationError(self._repeated)
        return self._root

    def _open(self, node: Node, anchor: str | None) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise _error(self._file, node.line, f"is nested deeper than {DEPTH_MAX}")
        self._stack.append(_Open(node, anchor))

    def _complete(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            # Known only from its end on, so that nothing can contain itself.
            self._anchors[anchor] = node
        self._place(node, node.line, weight=1)

    def _aliased(self, anchor: str, line: int) -> Node:
        node = self._anchors.get(anchor)
        if node is None:
            raise _error(self._file, line, "names an anchor (*…) that is not defined above it")
        if len(self._stack) + node.height > DEPTH_MAX:
            raise _error(self._file, line, f"is nested deeper than {DEPTH_MAX}")
        return node

    def _place(self, node: Node, line: int, *, weight: int) -> None:
        self._nodes += weight
        if self._nodes > NODES_MAX:
            raise _error(self._file, line, f"holds more than {NODES_MAX} values, aliases included")
        if not self._stack:
            self._root = node
            return
        holder = self._stack[-1]
        parent = holder.node
        if isinstance(parent.content, list):
            parent.content.append(node)
        elif holder.key is None:
            holder.key = (self._key(node), line)
            return
        else:
            self._enter(parent, holder.key, node)
            holder.key = None
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)

    def _enter(self, mapping: Node, key: tuple[str, int], value: Node) -> None:
        name, line = key
        if (first := mapping.content.get(name)) is not None:
            message = f"'{_short(name)}' stands twice: here and in line {first.line}"
            self._repeated.append(Problem(self._file, line, message))
            return
        mapping.content[name] = Entry(line, value)

    def _key(self, node: Node) -> str:
        if not isinstance(node.content, str):
            raise _error(
                self._file,
                node.line,
                "a key must be text: put it in quotes (yes, no, on, off and numbers are none)",
            )
        return str(node.content)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag is not None and tag != "!":
            raise _error(self._file, line, "has a tag (!…): tags are not read")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        value = str(event.value)
        plain = bool(event.implicit[0]) and event.tag is None
        tag = self._resolver.resolve(  # type: ignore[no-untyped-call]
            yaml.ScalarNode, value, (plain, not plain)
        )
        if tag == "tag:yaml.org,2002:merge":
            raise _error(
                self._file,
                line,
                "merge keys (<<) are not read: they would repeat keys without a word",
            )
        if tag in {"tag:yaml.org,2002:str", "tag:yaml.org,2002:value"}:
            text = FileText(value)
            text.folder = self._folder
            return text
        try:
            return self._constructor.construct_object(yaml.ScalarNode(tag, value), deep=True)
        except (ValueError, OverflowError, yaml.YAMLError):
            raise _error(
                self._file, line, "is no number or day: put it in quotes where it is text"
            ) from None


def _short(word: str) -> str:
    return word if len(word) <= 60 else word[:60] + "…"

"""From the model's complaint to a sentence at a place: which key, which line, what to write."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from app.config.problems import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from app.config.documents import Node

Path = tuple[str | int, ...]
"""From the root to a value: keys of mappings, positions in lists."""

_KEY_SHOWN: Final = 60
"""Longer keys are cut: what is that long is no key, and perhaps a secret."""


def validate(form: Any, root: Node, path: Path, problems: list[Problem]) -> Any:
    """The value at `path` as `form`; None where it is wrong, and then the reasons in `problems`."""
    node = root.at(path)
    try:
        return TypeAdapter(form).validate_python(node.plain())
    except ValidationError as error:
        problems += [
            _problem(form, root, path, detail)
            for detail in error.errors(include_url=False, include_context=True)
        ]
        return None


def written(path: Path) -> str:
    """`callers.invoice-loader.grants[0].tables`"""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (
                step if len(step) <= _KEY_SHOWN else step[:_KEY_SHOWN] + "…"
            )
    return text


def _problem(form: Any, root: Node, path: Path, detail: ErrorDetails) -> Problem:
    inside = detail["loc"]
    if inside and inside[-1] == "[key]":  # how pydantic says that the key itself is wrong
        inside = inside[:-1]
    whole = (*path, *inside)
    kind = detail["type"]
    if kind == "extra_forbidden":
        holder = root.at(path).at(tuple(inside[:-1])).content
        free = set(_known_keys(form, inside[:-1], root.at(path))) - set(holder)
        hint = nearest(str(inside[-1]), free) if free else "; no other can stand here"
        where = written(whole[:-1])
        return root.problem(
            whole, f"{where + ': ' if where else ''}unknown key '{written(inside[-1:])}'{hint}"
        )
    if kind == "missing":
        where = written(whole[:-1])
        return root.problem(whole[:-1], f"{where + ': ' if where else ''}'{whole[-1]}' is missing")
    return root.problem(whole, f"{written(whole)}: {_sentence(detail)}")


def _sentence(detail: ErrorDetails) -> str:
    """Never the value itself, except a word where only certain words may stand."""
    context = detail.get("ctx", {})
    value = detail["input"]
    match detail["type"]:
        case "string_type":
            quotes = isinstance(value, bool | int | float) or type(value).__name__ == "date"
            return "must be text" + (": put it in quotes" if quotes else "")
        case "bool_type":
            return "must be true or false, without quotes"
        case "int_type" | "int_from_float":
            return "must be a whole number, without quotes"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "literal_error" | "enum":
            known = [
                word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")
            ]
            if isinstance(value, str):
                return f"'{value[:_KEY_SHOWN]}' is not known{nearest(value, known)}"
            return f"must be one of {', '.join(known)}"
        case "string_pattern_mismatch":
            return f"must have the form {context['pattern']}"
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be a mapping"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "form":
            return str(context["otherwise"])
        case "uuid_type":
            return "must be a GUID, in quotes"
        case kind:
            return f"cannot be used here ({kind})"


def _known_keys(form: Any, path: Path, node: Node) -> Iterator[str]:
    for model in _models(form, path, node):
        for name, info in model.model_fields.items():
            yield info.alias or name


def _models(form: Any, path: Path, node: Node) -> list[type[BaseModel]]:
    """The models that may stand at the end of `path`, starting from a type."""
    origin = get_origin(form)
    if origin is Annotated:
        return _models(get_args(form)[0], path, node)
    if origin in {Union, UnionType}:
        found = [model for form in get_args(form) for model in _models(form, path, node)]
        if path:
            return found
        # Of several forms, the one that the file begins to write.
        keys = set(node.content) if isinstance(node.content, dict) else set()
        begun = [model for model in found if keys & set(_known_keys(model, (), node))]
        return begun or found
    if isinstance(form, type) and issubclass(form, BaseModel):
        if not path:
            return [form]
        for name, info in form.model_fields.items():
            if (info.alias or name) == path[0]:
                return _models(info.annotation, path[1:], node.at(path[:1]))
        return []
    if origin in {tuple, dict} and path:
        item = get_args(form)[1 if origin is dict else 0]
        return _models(item, path[1:], node.at(path[:1]))
    return []

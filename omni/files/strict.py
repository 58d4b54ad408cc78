"""Configurations from files and recipes: unknown, missing and mistyped keys are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import dacite

from omni.files.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def build_strictly(
    kind: type[Config],
    values: Any,
    *,
    where: str,
    remedy: str = "see its options in docs/data.md",
    error: type[UserError] = UserError,
) -> Config:
    """A dataclass from what JSON or YAML holds; lists become tuples where its fields are tuples.

    where: what errors call it; remedy: how they end; error: their class. A field that is kept out
    of the object's repr is kept out of them, too.
    """
    if not isinstance(values, Mapping):
        raise error(f"{where}={values!r}: must map names to values; {remedy}")
    rules = dacite.Config(strict=True, type_hooks={float: _float})
    try:
        return dacite.from_dict(kind, {key: _tuples(value) for key, value in values.items()}, rules)
    except dacite.UnexpectedDataError as found:
        key = min(map(str, found.keys))
        names = sorted(field.name for field in fields(kind))
        known = f"known are {', '.join(names)}" if key in values else remedy  # it lies deeper
        raise error(f"{where}: unknown key {key!r}; {known}") from None
    except dacite.MissingValueError as found:
        raise error(f"{where}: key {found.field_path!r} is missing; {remedy}") from None
    except dacite.WrongTypeError as found:
        value: Any = values
        for name in str(found.field_path).split("."):
            value = value[name] if isinstance(value, Mapping) else value
        secret = found.field_path in {field.name for field in fields(kind) if not field.repr}
        shown = "" if secret else f"={value!r}"
        raise error(
            f"{where}: {found.field_path}{shown}: must be {_called(found.field_type)}; {remedy}"
        ) from None


def _called(kind: Any) -> str:
    """A type in the words of who writes JSON or YAML."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        inner = dict.fromkeys(_called(one) for one in get_args(kind) if one is not ...)
        return f"a list, each {' or '.join(inner)}"
    return f"of type {getattr(kind, '__name__', kind)}"


def _float(value: Any) -> Any:
    """JSON's 1 is a float where one is wanted."""
    return float(value) if type(value) is int else value


def _tuples(value: Any) -> Any:
    """JSON knows no tuples, and a frozen configuration no lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

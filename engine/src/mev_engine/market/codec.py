"""Pool states of every family as JSON and back, by the fields of their dataclasses.

    integers        as they are, above 2^53 as decimal strings (JSON readers make floats of them)
    tuples          lists
    mappings        lists of [key, value]
    enums           their values
    other states    objects of their fields

A new family needs nothing here: `decode` reads the type's own annotations.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

_EXACT_IN_JSON = 2**53


def encode(value: Any) -> Any:
    """A state, or a field of one, as JSON has it. TypeError on what no state holds."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_IN_JSON else str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [encode(entry) for entry in value]
    if isinstance(value, Mapping):
        return [[encode(key), encode(entry)] for key, entry in value.items()]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} can't be stored: states hold integers, tuples, enums, mappings")


def decode(kind: Any, values: Any) -> Any:
    """The state of type `kind` that `encode` was called on; fields with defaults may be left out.

    ValueError naming field, value and what it must be; and those of the state's own checks.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} = {values!r}: must be an object of its fields")
    hints = _hints(kind)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {unknown[0]}: it has {', '.join(hints)}")
    missing = [name for name, (_, needed) in hints.items() if needed and name not in values]
    if missing:
        raise ValueError(f"{kind.__name__} lacks {', '.join(missing)}: give every field without a default")
    return kind(**{name: _value(name, hints[name][0], value) for name, value in values.items()})


@lru_cache
def _hints(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Types of a dataclass's fields, and whether they must be given."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    }


def _value(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (other,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _value(name, other, value)
    if origin is tuple:
        return _tuple(name, arguments, value)
    if origin is Mapping:
        pairs = [_tuple(name, arguments, pair) for pair in _list(name, value)]
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"{name} has a key twice: give each once")
        return dict(pairs)
    return _single(name, hint, value)


def _single(name: str, hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return decode(hint, value)
    if hint is int:
        return whole(name, value)
    if issubclass(hint, Enum):
        if value not in {member.value for member in hint}:
            known = ", ".join(str(member.value) for member in hint)
            raise ValueError(f"{name} = {value!r}: must be one of {known}")
        return hint(value)
    if type(value) is not hint:
        raise ValueError(f"{name} = {value!r}: must be of type {hint.__name__}")
    return value


def whole(name: str, value: Any) -> int:
    """An integer from JSON: a number without fraction, or its decimal digits."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise ValueError(f"{name} = {value!r}: not an integer")


def _tuple(name: str, hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    entries = _list(name, value)
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(entries)
    if len(entries) != len(hints):
        raise ValueError(f"{name} has {len(entries)} entries: must have {len(hints)}")
    return tuple(
        _value(f"{name}[{k}]", hint, entry)
        for k, (hint, entry) in enumerate(zip(hints, entries, strict=True))
    )


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} = {value!r}: must be a list")
    return value

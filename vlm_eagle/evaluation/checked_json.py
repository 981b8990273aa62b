"""Dataclasses from JSON that somebody else may have written, with errors that name the place."""

import dataclasses
import functools
import math
import reprlib
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from vlm_eagle.errors import UserError

MAX_COUNT = 2**53  # the whole numbers that a float holds exactly

T = TypeVar("T")


def from_json(kind: type[T], value: Any, place: str) -> T:
    """A dataclass from JSON that somebody else may have written. Unknown keys are ignored.

    Args:
        kind: a dataclass of scalars, Any, dataclasses, and lists, dicts, tuples and optionals of them.
        value: what `json.loads` returned.
        place: where it stands, for errors.

    Raises:
        UserError: a key is missing, or a value has another type; numbers must be finite and counts not negative.
    """
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints, found = _hints(kind), {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name in value:
            found[item.name] = _checked(hints[item.name], value[item.name], f"{place}.{item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UserError(f"{place} has no {item.name}. Run vlm-eagle score or speedup again.")
    return kind(**found)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _checked(kind: Any, value: Any, place: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType and NoneType in inner:
        return None if value is None else _checked(next(k for k in inner if k is not NoneType), value, place)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(place, value, "an object")
        return {key: _checked(inner[1], item, f"{place}.{key}") for key, item in value.items()}
    if origin in (list, tuple):
        if not isinstance(value, list) or (origin is tuple and len(value) != len(inner)):
            raise _wrong(place, value, "a list" if origin is list else f"a list of {len(inner)}")
        kinds = inner if origin is tuple else inner * len(value)
        return origin(_checked(k, item, f"{place}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, place)  # type: ignore[arg-type]
    expected, fits = _SCALARS[kind]
    if not fits(value):
        raise _wrong(place, value, expected)
    return value


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


_SCALARS: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", lambda value: type(value) is int and 0 <= value < MAX_COUNT),
    float: ("a finite number", _is_finite),
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    Any: ("anything", lambda value: True),
}


def _wrong(place: str, value: Any, expected: str) -> UserError:
    return UserError(f"{place} is {reprlib.repr(value)}, expected {expected}. Is the file damaged?")

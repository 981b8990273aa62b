"""Typed access to JSON that somebody else wrote: the value, None where it is missing, or an error that names the place."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlm_eagle.errors import UserError

MAX_BYTES = 2**30  # of a result file


class Fields:
    """An object of a JSON file. Methods return None (or nothing) for a missing or null key.

    Raises:
        UserError: a value of another type; the message names file and place.
    """

    def __init__(self, values: Any, place: str):
        if not isinstance(values, dict):
            raise UserError(f"{place} is {_show(values)}, expected an object. Is the file damaged?")
        self.values, self.place = values, place

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str) -> str | None:
        """A string; a number counts as one, because ids often are numbers."""
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        raise self._wrong(key, value, "a text")

    def number(self, key: str) -> float | None:
        """A finite number; one that is not finite counts as missing."""
        value = self.values.get(key)
        return None if value is None else _number(value, lambda: self._wrong(key, value, "a number"))

    def count(self, key: str) -> int | None:
        """A whole number that is not negative."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, value, "a whole number")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(key, value, "true or false")

    def required(self, key: str) -> int:
        """A whole number that must be there."""
        value = self.count(key)
        if value is None:
            raise UserError(f"{self.place} has no {key}. Write the file anew with this version's acc_length.py or speedup.py.")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """Finite numbers; a missing list is an empty one."""
        values = self._list(key)
        found = [_number(value, lambda: self._wrong(key, values, "a list of numbers")) for value in values]
        return tuple(number for number in found if number is not None)

    def counts(self, key: str) -> tuple[int, ...] | None:
        """Whole numbers that are not negative."""
        values = self._list(key)
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
            raise self._wrong(key, values, "a list of whole numbers")
        return tuple(values) if key in self else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Strings."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, values, "a list of texts")
        return tuple(values) if key in self else None

    def child(self, key: str) -> "Fields":
        """An object; a missing one is empty."""
        value = self.values.get(key)
        return Fields({} if value is None else value, f"{self.place}.{key}")

    def children(self, key: str) -> Iterator["Fields"]:
        """A list of objects; a missing list is an empty one."""
        for i, value in enumerate(self._list(key)):
            yield Fields(value, f"{self.place}.{key}[{i}]")

    def items(self) -> Iterator[tuple[str, "Fields"]]:
        """Name and object, for an object of objects."""
        for key, value in self.values.items():
            yield key, Fields(value, f"{self.place}.{key}")

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> UserError:
        return UserError(f"{self.place}.{key} is {_show(value)}, expected {expected}. Is the file damaged?")


def read_fields(file: Path) -> Fields:
    """The JSON object in a file.

    Raises:
        UserError: no such file, too large, no JSON, or something other than an object.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file} has more than {MAX_BYTES // 2**30} GiB, which no result file has.")
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {error}. Give files that acc_length.py or speedup.py wrote.") from error
    return Fields(values, str(file))


def _number(value: Any, wrong) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong()
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any float
        return None


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

"""Command lines: a typed configuration in, an exit code out, and errors a user can act on."""

import difflib
import gc
import json
import os
import re
import sys
import textwrap
from argparse import Action
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from vlm_eagle.errors import UserError
from vlm_eagle.log import printed
from vlm_eagle.packages import check_versions

Config = TypeVar("Config")
USAGE, INTERRUPTED = 2, 130  # exit codes
CONFIGS = Path(__file__).parent / "configs"  # ready ones: of training, and in eval/ of measuring
_UNKNOWN = r"nrecognized arguments: --([\w.-]+)|(?:Group '([\w.]+)' does not accept o|O)ption '([\w.-]+)'"


_HELP_OF_CONFIG = "YAML file of settings, or the name of a ready one; options given after it override it"
_HOW_TO_WRITE = "Options are written with - or _. A list takes several words (--option a b); true may be left out (--option)."


class _Help(DefaultHelpFormatter):
    """jsonargparse's help, with a module's docstring laid out as it was written, and lists as this command line takes them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are wrapped; blank and indented lines, which are examples, stay as they are."""
        out: list[str] = []
        for prose, group in groupby(text.strip().splitlines(), key=lambda line: line[:1] not in ("", " ")):
            lines = list(group)
            out += textwrap.wrap(" ".join(lines), width - len(indent)) if prose else lines
        return "".join(f"{indent}{line}\n" for line in out)

    def _format_action_invocation(self, action: Action) -> str:
        if any(option.endswith("+") for option in action.option_strings):  # jsonargparse's way to lengthen a list
            return f"{action.option_strings[0]} {action.dest.rpartition('.')[2].upper()} ..."
        return super()._format_action_invocation(action)

    def _get_type_str(self, action: Action) -> str | None:
        """Nothing where the choices stand before it."""
        if isinstance(action.metavar, str) and action.metavar.startswith("{"):
            return None
        return re.sub(r"Optional\[(.*)\]", r"\1 | null", super()._get_type_str(action) or "") or None


class _Parser(ArgumentParser):
    """jsonargparse that names the nearest option when one does not exist, and says errors in one line."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        unknown = re.search(_UNKNOWN, message)
        if unknown:
            names = [action.dest for action in self._actions]
            name = ".".join(filter(None, unknown.groups())).replace("-", "_")
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            message += f"\nDid you mean --{close[0]}?" if close else ""
        message = re.sub(r"<class '(\w+)'>|typing\.(?=Literal)", r"\1", message).replace("NoneType", "none")
        print(f"error: {message}\n{self.prog} --help lists all options.", file=sys.stderr)
        sys.exit(USAGE)


def parse(kind: type[Config], description: str, argv: Sequence[str], default_config: Path | None = None) -> Config:
    """The dataclass `kind` from a command line: one option per field, dotted for nested ones, and `--config` for YAML.

    `--some-option` and `--some_option` are the same; a boolean needs no value; a list takes several; none is null.
    `--config` also takes the bare name of a ready file; `default_config` holds when it is not given.
    """
    argv = [_found(word) for word in _normalise(argv, _field_types(kind))]
    if any(arg == "--config" or arg.startswith("--config=") for arg in argv):
        default_config = None
    defaults: list[str | os.PathLike[str]] | None = [default_config] if default_config else None
    parser = _Parser(
        prog=_program(), usage="%(prog)s [options]", description=description, epilog=_HOW_TO_WRITE, formatter_class=_Help,
        default_config_files=defaults, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", action="config", help=_HELP_OF_CONFIG)
    parser.add_class_arguments(kind)
    namespace = parser.parse_args(argv)
    namespace.pop("config", None)
    values: Namespace = parser.instantiate(namespace)
    return kind(**vars(values))


def run_cli(
    main: Callable[[Config], int | None],
    kind: type[Config],
    description: str | None,
    default_config: Path | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parses the command line and runs `main` on it. The user's errors, those of the operating system and Ctrl-C become one
    line and an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # threads that wait sleep soon: as fast on an idle machine, many times faster on a busy one; OpenMP reads it with torch
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    gc.set_threshold(10_000)  # imports make a million objects and no garbage: to look for some every 700 is a fifth of a start
    try:
        check_versions()
        config = parse(kind, description or "", argv, default_config)
        with printed():
            return main(config) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        if error.errno is None:  # a library's, and not the operating system's
            raise
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def option(argv: Sequence[str], name: str) -> str | None:
    """What follows `--name` on a command line, before it is parsed; where it is given twice, the last; else None."""
    value = None
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word == f"--{name}":
            value = following
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def find_config(name: str | None) -> str | None:
    """The file that `--config` means: a path as it is, or a ready configuration by its bare name.

    Raises:
        UserError: a bare name that is neither a file here nor a ready configuration.
    """
    if name is None or Path(name).name != name or Path(name).suffix or Path(name).is_file():
        return name
    ready = {file.stem: str(file) for folder in (CONFIGS, CONFIGS / "eval") for file in sorted(folder.glob("*.yaml"))}
    if name not in ready:
        raise UserError(
            f"--config {name}: there is no such file, and no ready configuration of that name. Ready are {', '.join(ready)}."
        )
    return ready[name]


def _found(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={find_config(value)}" if equals and option == "--config" else word


def check_output(place: str | Path, *, folder: bool = False) -> None:
    """Refuses a file (or a folder) that cannot be written, before the work whose result is to go there. Writes nothing.

    Raises:
        UserError: a file is where a folder is wanted, or the other way round, or the right to write is missing.
    """
    place = Path(place).absolute()
    if place.is_file() if folder else place.is_dir():
        is_, wanted = ("file", "folder") if folder else ("folder", "file")
        raise UserError(f"{place} is a {is_}, and a {wanted} is to be written there. Give another place.")
    there = next(path for path in (place, *place.parents) if path.exists())
    above = there.parent if there == place and not folder else there
    if not above.is_dir():
        raise UserError(f"{place} cannot be written: {above} is a file. Give another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{place} cannot be written: you may not write in {above}. Give another place.")


def _program() -> str | None:
    """How the user called a package, which argparse before Python 3.14 calls __main__.py; None where argparse knows."""
    if sys.argv[0].startswith(("python -m ", "vlm-eagle ")):  # the package said so itself, with the name that follows
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if spec and spec.name.endswith(".__main__") else None


def _field_types(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted option name -> type, through nested dataclasses."""
    types, hints = {}, get_type_hints(kind)
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            types |= _field_types(hints[f.name], f"{prefix}{f.name}.")
        else:
            types[prefix + f.name] = hints[f.name]
    return types


def _normalise(argv: Sequence[str], types: dict[str, Any]) -> list[str]:
    """`--a-b x y` to `--a_b=...` as jsonargparse reads it."""
    out, i = [], 0
    while i < len(argv):
        word = argv[i]
        i += 1
        if not word.startswith("--"):
            out.append(word)
            continue
        option, equals, value = word.partition("=")
        name = option[2:].replace("-", "_")
        kind = types.get(name)
        values = [value] if equals else []
        while not equals and i < len(argv) and not argv[i].startswith("--"):
            values.append(argv[i])
            i += 1
        if kind is bool and not values:
            values = ["true"]
        elif values == ["none"] and NoneType in get_args(kind):
            values = ["null"]
        elif (item := _list_item(kind)) and not (len(values) == 1 and (values[0].startswith("[") or values[0] == "null")):
            values = [json.dumps(values if item is str else [_literal(v) for v in values])]
        out += [f"--{name}={values[0]}", *values[1:]] if values else [f"--{name}"]
    return out


def _list_item(kind: Any) -> Any:
    """The type of a list's items; None when `kind` is neither a list nor an optional one."""
    lists = [k for k in (kind, *get_args(kind)) if get_origin(k) is list]
    return get_args(lists[0])[0] if lists else None


def _literal(text: str) -> Any:
    return int(text) if re.fullmatch(r"-?\d+", text) else text

"""Command lines: a typed configuration in, an exit code out, and errors that a user can act on."""

import difflib
import gc
import os
import re
import sys
import textwrap
from argparse import Action
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import TypeVar, get_args

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from vlm_eagle.errors import UserError
from vlm_eagle.log import printed
from vlm_eagle.packages import check_versions

Config = TypeVar("Config")
USAGE, INTERRUPTED = 2, 130  # exit codes
CONFIGS = Path(__file__).parent / "configs"  # the ready ones for training; in eval/ those for measuring
_EPILOG = "Options are written with - or _. A list takes several words (--option a b); true may be left out (--option)."


class _Help(DefaultHelpFormatter):
    """jsonargparse's help, with a module's docstring laid out as it was written, and lists as they are typed."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wraps paragraphs; keeps blank and indented lines, which are examples."""
        out: list[str] = []
        for prose, group in groupby(text.strip().splitlines(), key=lambda line: line[:1] not in ("", " ")):
            lines = list(group)
            out += textwrap.wrap(" ".join(lines), width - len(indent)) if prose else lines
        return "".join(f"{indent}{line}\n" for line in out)

    def _format_action_invocation(self, action: Action) -> str:
        if any(option.endswith("+") for option in action.option_strings):  # jsonargparse's option that extends a list
            return f"{action.option_strings[0]} {action.dest.rpartition('.')[2].upper()} ..."
        return super()._format_action_invocation(action)

    def _get_type_str(self, action: Action) -> str | None:
        if str(action.metavar).startswith("{"):  # the choices stand before it
            return None
        return re.sub(r"Optional\[(.*)\]", r"\1 | null", super()._get_type_str(action) or "") or None


class _Parser(ArgumentParser):
    """jsonargparse's parser with errors of one line, and the nearest option when one does not exist."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        if unknown := re.search(r"arguments: --([\w.-]+)|(?:Group '([\w.]+)' does not accept o|O)ption '([\w.-]+)'", message):
            name, names = ".".join(filter(None, unknown.groups())), [action.dest for action in self._actions]
            close = difflib.get_close_matches(name.replace("-", "_"), names, n=1, cutoff=0.5)
            message += f"\nDid you mean --{close[0]}?" if close else ""
        message = re.sub(r"<class '(\w+)'>|typing\.(?=Literal)", r"\1", message).replace("NoneType", "none")
        print(f"error: {message}\n{self.prog} --help lists all options.", file=sys.stderr)
        sys.exit(USAGE)

    def words(self, argv: Sequence[str]) -> list[str]:
        """A command line as jsonargparse reads it: `--a-b x y` as `--a_b=[] --a_b+=x --a_b+=y`."""
        options: list[list[str]] = [[]]
        for word in argv:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                options.append(["--" + name[2:].replace("-", "_"), *([value] if equals else [])])
            else:
                options[-1].append(word)
        out = options[0]
        for name, *values in options[1:]:
            kind = getattr(self._option_string_actions.get(name), "_typehint", None)
            if name == "--config":
                values = [find_config(value) for value in values]
            elif kind is bool and not values:
                values = ["true"]
            elif values == ["none"] and NoneType in get_args(kind):
                values = ["null"]
            if f"{name}+" in self._option_string_actions and values and values != ["null"]:
                out += [f"{name}=[]", *(f"{name}+={value}" for value in values)]
            else:
                out += [f"{name}={values[0]}", *values[1:]] if values else [name]
        return out


def parse(kind: type[Config], description: str, argv: Sequence[str], default_config: Path | None = None) -> Config:
    """The dataclass `kind` from a command line: one option per field, dotted for nested ones, and `--config` for YAML.

    `--some-option` and `--some_option` are the same; a boolean needs no value; a list takes several; none is null.
    `--config` also takes the bare name of a ready file; `default_config` holds when it is not given.
    """
    is_given = any(word.partition("=")[0] == "--config" for word in argv)
    files: list[str | os.PathLike[str]] = [default_config] if default_config and not is_given else []
    parser = _Parser(
        prog=_program(), usage="%(prog)s [options]", description=description, epilog=_EPILOG, formatter_class=_Help,
        default_config_files=files, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", action="config", help="YAML file, or the name of a ready one; options after it override it")
    parser.add_class_arguments(kind)
    namespace = parser.parse_args(parser.words(argv))
    namespace.pop("config", None)
    return kind(**vars(parser.instantiate(namespace)))


def run_cli(
    main: Callable[[Config], int | None], kind: type[Config], description: str | None, default_config: Path | None = None,
    argv: Sequence[str] | None = None,
) -> int:  # fmt: skip
    """Parses the command line and runs `main` on it. A user's errors, the operating system's and Ctrl-C become one line and an
    exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # waiting threads sleep soon: as fast on an idle machine, many times faster on a busy one; OpenMP reads it with torch
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    gc.set_threshold(10_000)  # imports make a million objects and no garbage; looking every 700 costs a fifth of a start
    try:
        check_versions()
        config = parse(kind, description or "", argv, default_config)
        with printed():
            return main(config) or 0
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:  # a library's, not the operating system's
            raise
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def find_config(name: str) -> str:
    """The file that `--config` means: a path as it is, or a ready configuration by its bare name.

    Raises:
        UserError: a bare name that is neither a file here nor a ready configuration.
    """
    if Path(name).name != name or Path(name).suffix or Path(name).is_file():
        return name
    ready = {file.stem: str(file) for folder in (CONFIGS, CONFIGS / "eval") for file in sorted(folder.glob("*.yaml"))}
    if name not in ready:
        raise UserError(f"--config {name}: no such file or ready configuration. Ready are {', '.join(ready)}.")
    return ready[name]


def _program() -> str | None:
    """How the user called a package, which argparse before Python 3.14 calls __main__.py; None where argparse knows."""
    if sys.argv[0].startswith(("python -m ", "vlm-eagle ")):  # set by commands.run
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if spec and spec.name.endswith(".__main__") else None

"""Errors for packages that are missing or too old. Nothing is imported to find out."""

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from vlm_eagle.errors import UserError

OLDEST = {"torch": "2.9", "transformers": "5.8", "accelerate": "1.10", "qwen-vl-utils": "0.0.14"}  # pyproject.toml's


def require(*names: str, user: str, extra: str | None = None, otherwise: str = "") -> None:
    """Checks that packages are installed.

    Args:
        names: of modules.
        user: what needs them; the message begins with it.
        extra: the optional dependencies of pyproject.toml that install them.
        otherwise: a sentence about how to do without.

    Raises:
        UserError: one of them is missing.
    """
    for name in names:
        if find_spec(name) is None:
            install = f"'vlm-eagle[{extra}]'" if extra else name
            message = f"{user} needs the package {name}, which is not installed. Install it with: pip install {install}"
            raise UserError(f"{message}\n{otherwise}".rstrip())


def check_versions() -> None:
    """Checks that no package is older than this code supports.

    Raises:
        UserError: one of them is.
    """
    for name, oldest in OLDEST.items():
        try:
            found = version(name)
        except PackageNotFoundError:  # importing it will say so
            continue
        if [] < _numbers(found) < _numbers(oldest):
            raise UserError(
                f"{name} {found} is installed, and vlm-eagle needs {oldest} or newer. "
                f"Install it with: pip install '{name}>={oldest}'"
            )


def _numbers(text: str) -> list[int]:
    """The release numbers of a version: 2.9.0rc1+cpu is [2, 9, 0]."""
    return [int(number) for number in re.findall(r"^(?:\d+\.)*\d+|", text)[0].split(".") if number]

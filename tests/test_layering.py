"""Who may import whom (docs/architecture.md), read from the source, so that imports inside functions count too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = (
    {"__init__"},  # vlm_eagle/__init__.py, which everything imports
    {"records", "config", "errors", "packages", "provenance", "devices", "log"},
    {"data", "target", "draft"},
    {"training", "decoding"},
    {"interop"},
    {"demo"},
    {"data_recipes"},
    {"api"},
    {"cli", "commands", "scripts", "eval"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
OUTSIDE = ("scripts", "eval", "data_recipes")  # rooms that are not in vlm_eagle/
# nobody else reaches sideways
SAME_LEVEL = {("config", "errors"), ("devices", "errors"), ("packages", "errors")}
SAME_LEVEL |= {("scripts", "cli"), ("eval", "cli"), ("commands", "cli")}
ONLY = {"target": {"records", "config", "errors"}, "cli": {"errors", "packages", "log"}}  # stricter than the levels


def test_the_table_in_the_documents_is_this_one():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([`\w ]+) \|", text, re.MULTILINE)
    assert {room: int(level) for level, rooms in rows for room in re.findall(r"\w+", rooms)} == {
        room: level for room, level in LEVEL.items() if level
    }


def sources(root: Path) -> dict[Path, str]:
    """Every source file with the room it belongs to."""
    package = {file: file.relative_to(root / "vlm_eagle").parts[0] for file in (root / "vlm_eagle").rglob("*.py")}
    outside = {file: room for room in OUTSIDE for file in (root / room).rglob("*.py")}
    outside |= {file: "commands" for file in outside if file.name == "__main__.py"}  # what python -m runs
    return {file: room.removesuffix(".py") for file, room in (package | outside).items()}


def imported_modules(file: Path, root: Path) -> list[str]:
    """Dotted names of all imports in a file, relative ones resolved; `from a import b` counts as a.b."""
    names, package = [], file.relative_to(root).parent.parts
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if file == root / "vlm_eagle" / "__init__.py":  # it offers what api.py has, to type checkers at once and else when asked
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [".".join(package[: len(package) - node.level + 1])] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def room_of(module: str) -> str | None:
    """The room of an imported name; None when it is not ours."""
    parts = module.split(".")
    if parts[0] == "vlm_eagle":
        if len(parts) == 1 or parts[1].startswith("__"):
            return "__init__"
        return parts[1] if parts[1] in LEVEL else "api"  # a name that vlm_eagle/__init__.py takes from there
    return parts[0] if parts[0] in OUTSIDE else None


def allowed(room: str, other: str) -> bool:
    if other == room or LEVEL[other] == 0:
        return True
    if room in ONLY:
        return other in ONLY[room]
    return LEVEL[other] < LEVEL[room] or (room, other) in SAME_LEVEL


def breaches(root: Path) -> list[str]:
    found = []
    for file, room in sorted(sources(root).items()):
        for module in imported_modules(file, root):
            other = room_of(module)
            if other is not None and not allowed(room, other):
                found.append(f"{file.relative_to(root)} ({room}) imports {module}")
    return found


def test_every_room_has_a_level():
    assert set(sources(ROOT).values()) <= set(LEVEL)
    assert {"data", "target", "draft", "training", "decoding", "interop", "demo", "cli", "scripts", "eval"} <= set(
        sources(ROOT).values()
    )


def test_nothing_imports_upward_or_sideways():
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line", "is_breach"),
    [
        ("vlm_eagle/data/a.py", "from vlm_eagle.target.load import x", True),
        ("vlm_eagle/data/a.py", "def f():\n    import vlm_eagle.training.ttt", True),
        ("vlm_eagle/data/a.py", "from ..decoding import tree", True),
        ("vlm_eagle/data/a.py", "from .. import demo", True),
        ("vlm_eagle/data/a.py", "from vlm_eagle import cli", True),
        ("vlm_eagle/data/sub/a.py", "from ... import draft", True),
        ("vlm_eagle/target/a.py", "from vlm_eagle.provenance import x", True),
        ("vlm_eagle/records.py", "import vlm_eagle.data", True),
        ("vlm_eagle/decoding/a.py", "from vlm_eagle.training.ttt import x", True),
        ("vlm_eagle/demo/a.py", "from data_recipes import demo", True),
        ("vlm_eagle/cli.py", "from vlm_eagle.config import x", True),
        ("vlm_eagle/__init__.py", "from vlm_eagle.errors import x", True),
        ("data_recipes/a.py", "from vlm_eagle.cli import x", True),
        ("data_recipes/a/__main__.py", "from vlm_eagle.cli import x", False),
        ("eval/a.py", "import scripts.train_vlm", True),
        ("vlm_eagle/training/a.py", "from vlm_eagle import load_pair", True),
        ("vlm_eagle/__init__.py", "if TYPE_CHECKING:\n    from vlm_eagle.api import x", False),
        ("eval/a.py", "from vlm_eagle import load_pair", False),
        ("vlm_eagle/data/a.py", "import torch\nfrom . import images\nfrom ..records import Batch", False),
        ("vlm_eagle/data/a.py", "from vlm_eagle import __version__", False),
        ("vlm_eagle/demo/a.py", "from vlm_eagle.training import x\nfrom vlm_eagle.decoding import y", False),
        ("eval/a.py", "from vlm_eagle.cli import x\nfrom vlm_eagle.demo import y", False),
    ],
)
def test_the_check_itself(tmp_path, file, line, is_breach):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert bool(breaches(tmp_path)) == is_breach

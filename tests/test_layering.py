"""Who may import whom (docs/architecture.md), read from the source: every import counts, those inside of functions, for type
checkers only, and by name (`import_module`) too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = (
    {"__init__"},  # vlm_eagle/__init__.py, which everything imports
    {"records", "config", "errors", "packages", "atomic", "provenance", "devices", "log", "safe_text"},
    {"data", "target", "draft"},
    {"training", "decoding"},
    {"interop"},
    {"demo", "doctor"},
    {"data_recipes"},
    {"api", "evaluation"},
    {"cli", "commands"},
    {"scripts", "eval"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
OUTSIDE = ("scripts", "eval", "data_recipes")  # rooms that are not in vlm_eagle/
LAUNCHERS = {"__main__": "scripts"}  # what python -m runs belongs to those that start something
UNKNOWN = "a module whose name is only known at run time"
# of evaluation, lowest first
PARTS = ("checked_json", "result_schema", "benchmarks", "lookup", "lossless", "methods", "scores", "timing", "reporting")
# nobody else reaches sideways
SAME_LEVEL = {("config", "errors"), ("devices", "errors"), ("packages", "errors"), ("provenance", "errors")}
SAME_LEVEL |= {("provenance", "atomic")}
SAME_LEVEL |= {("commands", "cli")}
ONLY = {"target": {"records", "config", "errors"}, "cli": {"errors", "packages", "log"}}  # stricter than the levels


def test_the_table_in_the_documents_is_this_one():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([`\w ]+) \|", text, re.MULTILINE)
    assert {room: int(level) for level, rooms in rows for room in re.findall(r"\w+", rooms)} == {
        room: level for room, level in LEVEL.items() if level
    }


def sources(root: Path) -> dict[Path, str]:
    """Every source file with the room it belongs to."""
    package = {file: file.relative_to(root / "vlm_eagle").parts[0] for file in (root / "vlm_eagle").rglob("*.py")}
    outside = {file: room for room in OUTSIDE for file in (root / room).rglob("*.py")}
    return {file: LAUNCHERS.get(file.stem, room.removesuffix(".py")) for file, room in (package | outside).items()}


def imported_modules(file: Path, root: Path) -> list[str]:
    """Dotted names of all imports in a file, relative ones resolved; `from a import b` counts as a.b."""
    names, package = [], file.relative_to(root).parent.parts
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if file == root / "vlm_eagle" / "__init__.py":  # it offers what api.py has: to type checkers at once, else when asked
        is_offered = lambda node: isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        tree.body = [node for node in tree.body if not is_offered(node) and getattr(node, "name", "") != "__getattr__"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [neighbour(alias.name, file, root) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [".".join(package[: len(package) - node.level + 1])] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            module = module if node.level else neighbour(module, file, root)
            names += [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names.append(called_by_name(node, ".".join(package)))
    return names


def neighbour(module: str, file: Path, root: Path) -> str:
    """The full name of a module that a script finds because it lies beside it."""
    first, folder = module.partition(".")[0], file.relative_to(root).parent.parts
    is_beside = (file.parent / first).is_dir() or (file.parent / f"{first}.py").is_file()
    return ".".join([*folder, module]) if folder[0] in ("scripts", "eval") and is_beside else module


def called_by_name(call: ast.Call, package: str) -> str:
    """What `import_module` is given, as far as it is written there; UNKNOWN where even its first part is not."""
    first = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
    if isinstance(first, ast.Constant):
        return f"{first.value}..."
    return f"{package}..." if ast.unparse(getattr(first, "value", first)) == "__name__" else UNKNOWN


def room_of(module: str) -> str | None:
    """The room of an imported name; None when it is not ours."""
    parts = module.removesuffix("...").split(".")
    if parts[0] == "vlm_eagle":
        if parts[1:2] == ["__main__"]:
            return LAUNCHERS["__main__"]
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
            upward = other is not None and not (allowed(room, other) if other != room else is_part_below(file, module, root))
            if upward or module == UNKNOWN:
                found.append(f"{file.relative_to(root)} ({room}) imports {module}")
    return found


def is_part_below(file: Path, module: str, root: Path) -> bool:
    """Inside of evaluation, whether a part imports from itself or from those before it; elsewhere always."""
    here, there = file.relative_to(root).with_suffix("").parts, module.split(".")
    if here[:2] != ("vlm_eagle", "evaluation") or len(here) < 3 or len(there) < 3 or here[2] not in PARTS:
        return True
    return there[2] in PARTS and PARTS.index(there[2]) <= PARTS.index(here[2])


def test_every_room_has_a_level():
    assert set(sources(ROOT).values()) <= set(LEVEL)
    assert set(LEVEL) <= set(sources(ROOT).values())
    parts = {path.stem for path in (ROOT / "vlm_eagle" / "evaluation").iterdir() if not path.name.startswith("__")}
    assert parts == set(PARTS)


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
        ("data_recipes/a/__main__.py", "from vlm_eagle.commands import x", False),
        ("vlm_eagle/__main__.py", "from vlm_eagle.commands import x", False),
        ("vlm_eagle/commands/a.py", "from vlm_eagle.__main__ import x", True),
        ("vlm_eagle/commands/a.py", "from scripts.dev.a import x", True),
        ("vlm_eagle/commands/a.py", "from data_recipes import x\nfrom vlm_eagle.evaluation.scores import y", False),
        ("vlm_eagle/evaluation/scores/a.py", "def f():\n    from vlm_eagle.evaluation.timing import x", True),
        ("vlm_eagle/evaluation/scores/a.py", "from ..timing.benchmark import x", True),
        ("vlm_eagle/evaluation/timing/a.py", "from vlm_eagle.evaluation.scores.names import x", False),
        ("vlm_eagle/evaluation/a.py", "from vlm_eagle.commands import x", True),
        ("vlm_eagle/evaluation/a.py", "from data_recipes.stream import x", False),
        ("data_recipes/a.py", "if TYPE_CHECKING:\n    from vlm_eagle.evaluation import x", True),
        ("vlm_eagle/data/a.py", "importlib.import_module('vlm_eagle.training.ttt')", True),
        ("vlm_eagle/data/a.py", "import_module(f'vlm_eagle.training.{name}')", True),
        ("vlm_eagle/data/a.py", "import_module(name)", True),
        ("vlm_eagle/data/a.py", "import_module(f'{__name__}.{name}')", False),
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

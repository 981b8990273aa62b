"""pyproject.toml declares what the code imports, no more and no less; who lacks a package, or has an old one, is told so."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from data_recipes.stream import rows
from vlm_eagle import packages
from vlm_eagle.cli import run_cli
from vlm_eagle.commands.data import start as make_data
from vlm_eagle.config import TrainConfig
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.http import EngineHttp
from vlm_eagle.training import launch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train_vlm.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
STANDARD = sys.stdlib_module_names | {"tomllib"}  # since Python 3.11
INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml"}  # else the name with - for _
# Which extras each room may count on, besides the dependencies.
ROOMS = {
    "vlm_eagle": ("engines", "report"), "data_recipes": ("recipes",), "eval": ("report",), "scripts": (),
    "tests": ("recipes", "engines", "report", "dev"),
}  # fmt: skip
NOT_IMPORTED = {
    "torchvision": "transformers' video processor needs it",
    "tensorboard": "accelerate imports it for --tracker tensorboard",
    "pytest-xdist": "a plugin of pytest: make test",
    "ruff": "make lint",
    "pyright": "tests/test_types.py starts it",
    "codespell": "make lint",
}


def declared(requirements: list[str]) -> set[str]:
    """Names of distributions, without versions and markers; our own extras stand for what is in them."""
    names = set()
    for line in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w, ]+)\])?", line).groups()
        names |= {name} if name != PROJECT["name"] else set().union(*(declared(EXTRAS[extra]) for extra in extras.split(",")))
    return names


CORE = declared(PROJECT["dependencies"])


def imported(file: Path, ours: set[str]) -> set[str]:
    """Distributions that a source file imports anywhere, by statements or by `importorskip`."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            modules.add(node.args[0].value)
    names = {module.split(".")[0] for module in modules} - STANDARD - ours
    return {INSTALLED_AS.get(name, name.replace("_", "-")) for name in names}


def own_modules(room: str) -> set[str]:
    """What a room's files find on sys.path besides packages: a script finds its neighbours, a test also scripts."""
    folders = [ROOT, *(ROOT / name for name in ("eval", "scripts", "scripts/dev") if room in (name.split("/")[0], "tests"))]
    if room == "tests":
        folders += [ROOT / room, *(path for path in (ROOT / room).rglob("*") if path.is_dir())]
    return {path.stem for folder in folders for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}


def imports_of(room: str) -> dict[str, list[str]]:
    """Distribution -> files of the room that import it."""
    found: dict[str, list[str]] = {}
    ours = own_modules(room)
    for file in sorted((ROOT / room).rglob("*.py")):
        for name in imported(file, ours):
            found.setdefault(name, []).append(str(file.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_imported_is_declared(room):
    known = CORE.union(*(declared(EXTRAS[extra]) for extra in ROOMS[room]))
    assert {name: files for name, files in imports_of(room).items() if name not in known} == {}


@pytest.mark.slow
def test_what_is_declared_is_imported():
    everywhere = set().union(*map(imports_of, ROOMS))
    at_run_time = set().union(*(imports_of(room) for room in ROOMS if room != "tests"))
    optional = set().union(*(declared(EXTRAS[extra]) for extra in EXTRAS if extra != "dev"))
    assert (CORE | optional) - at_run_time - set(NOT_IMPORTED) == set()
    assert declared(EXTRAS["dev"]) - everywhere - set(NOT_IMPORTED) == set()
    assert not set(NOT_IMPORTED) & everywhere, "reasons that no longer hold"


def test_an_extra_holds_nothing_that_everybody_gets():
    for extra, lines in EXTRAS.items():
        assert not declared(lines) & CORE, extra


def test_the_oldest_versions_are_those_that_are_declared():
    stated = dict(re.match(r"([\w-]+).*>=(.+)", line).groups() for line in PROJECT["dependencies"] if ">=" in line)
    assert {name: stated[name] for name in packages.OLDEST} == packages.OLDEST


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import a.b as c, d", {"a", "d"}),
        ("def f():\n    from PIL.Image import open", {"pillow"}),
        ("from . import e\nimport os, mine", set()),
        ("x = pytest.importorskip('qwen_vl_utils.x')", {"qwen-vl-utils"}),
    ],
)
def test_the_check_itself(tmp_path, line, names):
    (tmp_path / "a.py").write_text(line)
    assert imported(tmp_path / "a.py", {"mine"}) == names


def without(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def message(user: str, name: str, install: str) -> str:
    return f"{user} needs the package {name}, which is not installed. Install it with: pip install {install}"


@pytest.mark.parametrize("name", ["datasketch", "py3langid", "ijson"])
def test_recipes_name_their_extra(tmp_path, monkeypatch, capsys, name):
    """Before a row is read, and a folder is made."""
    without(monkeypatch, name)
    monkeypatch.setattr(sys, "argv", sys.argv)  # main changes it
    (tmp_path / "rows.jsonl").write_text("{}\n")
    argv = ["format-sharegpt", "--source", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]
    assert make_data(argv) == 2
    assert capsys.readouterr().err == "error: " + message("Making data", name, "'vlm-eagle[recipes]'") + "\n"
    assert not (tmp_path / "out").exists()


def test_lists_in_json_need_the_recipes_and_lines_do_not(tmp_path, monkeypatch):
    """Benchmarks are read by the same code, and most of them are no lists."""
    without(monkeypatch, "ijson")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "rows.json").write_text('[{"a": 1}]')
    assert [row for _, row in rows(tmp_path / "rows.jsonl")] == [{"a": 1}]
    with pytest.raises(UserError) as stopped:
        list(rows(tmp_path / "rows.json"))
    assert str(stopped.value) == message("A JSON file that is one list", "ijson", "'vlm-eagle[recipes]'")


def test_engines_name_their_extra(monkeypatch):
    without(monkeypatch, "httpx")
    with pytest.raises(UserError) as stopped:
        EngineHttp("http://localhost:1")
    assert str(stopped.value) == message("Talking to a server", "httpx", "'vlm-eagle[engines]'")


@pytest.mark.parametrize(("tracker", "install"), [("tensorboard", "'vlm-eagle[report]'"), ("wandb", "wandb")])
def test_trackers_that_are_missing(monkeypatch, tracker, install):
    """accelerate alone would say nothing, and track nothing."""
    without(monkeypatch, tracker)
    monkeypatch.setattr(launch, "get_available_trackers", list)
    with pytest.raises(UserError) as stopped:
        launch.make_accelerator(tracker)
    assert str(stopped.value) == message(f"--tracker {tracker}", tracker, install)


@pytest.mark.parametrize(
    ("name", "found", "is_old"),
    [
        ("transformers", "4.57.1", True), ("transformers", "5.7.9", True), ("transformers", "5.8.0.dev0", False),
        ("transformers", "5.10.0", False), ("torch", "2.8.0+cu128", True), ("torch", "2.9.0+cpu", False), ("torch", "3", False),
        ("qwen-vl-utils", "0.0.9", True), ("accelerate", "unknown", False),
    ],
)  # fmt: skip
def test_old_packages(monkeypatch, capsys, name, found, is_old):
    real = metadata.version
    monkeypatch.setattr(packages, "version", lambda asked: found if asked == name else real(asked))
    ran = []
    assert run_cli(ran.append, TrainConfig, "", argv=[]) == (2 if is_old else 0)
    assert len(ran) == (not is_old)
    oldest = packages.OLDEST[name]
    said = f"error: {name} {found} is installed, and vlm-eagle needs {oldest} or newer. Install it with: pip install "
    assert capsys.readouterr().err == (f"{said}'{name}>={oldest}'\n" if is_old else "")


def test_an_old_package_whose_import_would_fail(tmp_path):
    """Versions are looked at before anything is imported that needs them."""
    (tmp_path / "transformers.py").write_text("raise ImportError('cannot import name Qwen3VLForConditionalGeneration')")
    (tmp_path / "transformers-4.40.0.dist-info").mkdir()
    (tmp_path / "transformers-4.40.0.dist-info" / "METADATA").write_text("Name: transformers\nVersion: 4.40.0\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    shown = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1), shown.stderr
    assert shown.stderr.startswith("error: transformers 4.40.0 is installed")


def test_a_package_without_metadata_is_left_to_its_import(monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", unknown)
    packages.check_versions()

"""docs/status.md, the workflow, the Makefile and pyproject.toml agree about versions and commands."""

import re
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

import vlm_eagle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
STATUS = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
TARGETS = set(re.findall(r"^(\w+):(?!=)", MAKEFILE, re.MULTILINE))
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in STATUS.splitlines() if line.startswith("|")][2:]


def steps(job: str) -> list[dict]:
    return WORKFLOW["jobs"][job]["steps"]


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in steps(job))


def row(kind: str) -> str:
    """The first row whose kind begins so, as text."""
    return next(" | ".join(cells) for cells in ROWS if cells[1].startswith(kind))


def minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def test_rows_are_whole_and_dated():
    assert len(ROWS) >= 20
    for cells in ROWS:
        assert len(cells) == 5, cells
        _, kind, when, command, result = cells
        assert kind
        assert re.fullmatch(r"never|2\d{3}-\d\d(-\d\d)?", when), cells
        assert when == "never" or when <= date.today().isoformat(), cells
        assert command == "" if when == "never" else result, cells


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/status.md", "SECURITY.md", "CHANGELOG.md"])
def test_make_targets_and_files_exist(name):
    quoted = re.findall(r"`([^`\n]+)`", (ROOT / name).read_text(encoding="utf-8"))
    assert {text.split()[1] for text in quoted if text.startswith("make ")} <= TARGETS
    files = [text for text in quoted if re.fullmatch(r"(?:docs|tests|eval|scripts|\.github|\.ci)/[\w./-]+", text)]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_oldest_versions_are_those_that_are_promised():
    pinned = dict(part.split("==") for part in re.search(r"^OLDEST := (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    promised = dict(re.match(r"([\w-]+).*>=(.+)", line).groups() for line in PROJECT["dependencies"] if ">=" in line)
    promised.pop("jsonargparse")  # reads options only
    for name, version in promised.items():
        assert pinned[name].removesuffix(".0") == version, name
    assert row("torch 2.9").startswith("Oldest versions")
    assert row(", ".join(f"{name} {version}" for name, version in pinned.items()))
    for name in ("torch", "transformers"):
        assert f"{name} {promised[name]} or newer" in README


def test_every_python_that_is_promised_has_a_row_and_a_job():
    tested = WORKFLOW["jobs"]["fast"]["strategy"]["matrix"]["python"]
    assert f">={tested[0]}" == PROJECT["requires-python"]
    assert f"Python {tested[0]} or newer" in README
    kinds = " ".join(cells[1] for cells in ROWS[[cells[0] for cells in ROWS].index("Python") :][:3])
    assert re.findall(r"3\.\d+", kinds) == tested == sorted(tested, key=minor)
    oldest = next(step["with"]["python-version"] for step in steps("oldest") if "with" in step)
    assert oldest == tested[0]


def test_the_workflow_runs_what_the_makefile_has():
    called = {target for job in WORKFLOW["jobs"] for target in re.findall(r"\bmake (\w+)", commands(job))}
    assert called == {"lint", "fast", "test", "oldest", "chromium"}
    assert called <= TARGETS
    assert "python -m build" in commands("wheel")


def test_engines_have_the_versions_that_were_measured():
    for engine, document in [
        ("vLLM 0.32.0", "engines.md"),
        ("speculators", "measurements.md"),
        ("SGLang 0.5.23", "measurements.md"),
    ]:
        assert engine in (ROOT / "docs" / document).read_text(encoding="utf-8")
        assert row(engine)


def test_fast_leaves_out_markers_that_exist():
    declared = {line.split(":")[0] for line in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    selected = re.search(r'^fast:.*\n.*-m "(.*)"$', MAKEFILE, re.MULTILINE)[1]
    assert set(re.findall(r"not (\w+)", selected)) == declared - {"gpu"}


def test_there_is_one_version():
    assert vlm_eagle.__version__ == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(version for version in re.findall(r"^## \[?([\w.]+)", changelog, re.MULTILINE) if version != "Unreleased")
    assert newest == PROJECT["version"]

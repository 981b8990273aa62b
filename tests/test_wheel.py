"""What `pip wheel` builds holds everything that the code opens, and runs from an empty folder without the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from waiting import LIMIT

ROOT = Path(__file__).parents[1]
PACKAGES = ("vlm_eagle", "data_recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the tracked files, so that nothing which happens to lie about gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*tracked(), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    built = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    if "BackendUnavailable" in built.stderr:
        pytest.skip("setuptools is not installed, and building with isolation needs a network")
    assert built.returncode == 0, built.stderr[-3000:]
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def tracked() -> set[str]:
    """Files of the packages that git knows or would add."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git repository")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert tracked() - names == set()
    for part in ("demo/target/model.safetensors", "configs/demo.yaml", "evaluation/reporting/page.css"):
        assert f"vlm_eagle/{part}" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES), "nothing else is installed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "vlm_eagle", "--help"], "serve-check"),
        (["-m", "vlm_eagle", "train", "--config", "qwen3_vl_2b", "--print_config"], "target: Qwen/Qwen3-VL-2B-Instruct"),
        (["-m", "vlm_eagle", "train", "--print_config"], "out: outputs/demo"),
        (["-m", "vlm_eagle", "speedup", "--config", "eagle3-qwen3-8b-zh", "--draft", "x", "--print_config"], "ceval"),
        (["-m", "data_recipes"], "bilingual-135k"),
        (["-m", "vlm_eagle", "generate", "--draft", "none", "--prompt", "hi", "--max-new-tokens", "4"], ""),
    ],
    ids=lambda value: " ".join(value[1:4]) if isinstance(value, list) else "",
)
def test_it_runs_from_an_empty_folder(installed, tmp_path, words, said):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import vlm_eagle; print(vlm_eagle.__file__)"
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": LIMIT}
    assert str(installed) in subprocess.run([sys.executable, "-c", where], **options).stdout
    ran = subprocess.run([sys.executable, *words], **options)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert said in ran.stdout
    assert ran.stdout.strip()
    assert list(tmp_path.iterdir()) == []

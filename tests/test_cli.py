"""The command line: what may be written, what comes out, and what is refused with exit code 2 and a hint."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from vlm_eagle.cli import parse, run_cli
from vlm_eagle.errors import UserError


@dataclass(kw_only=True)
class Data:
    train_files: list[str] = field(default_factory=lambda: ["demo"])
    max_length: int = 2048
    strict: bool = False


@dataclass(kw_only=True)
class Config:
    out: str = "outputs"
    learning_rate: float = 1e-3
    dry_run: bool = False
    resume: bool = True
    layer_ids: list[int] = field(default_factory=list)
    cut_points: list[int] | None = None
    limit: int | None = None
    kind: Literal["draft", "chain"] = "draft"
    data: Data = field(default_factory=Data)

    def __post_init__(self):
        if self.data.max_length <= 0:
            raise UserError(f"data.max_length must be greater than 0, found {self.data.max_length}.")


def parsed(*argv: str, default_config: Path | None = None) -> Config:
    return parse(Config, "A test.", argv, default_config)


ACCEPTED = [
    ("", Config()),
    ("--out here", Config(out="here")),
    ("--out=a=b", Config(out="a=b")),
    ("--out 7", Config(out="7")),
    ("--learning-rate 1e-4", Config(learning_rate=1e-4)),
    ("--learning_rate=0.5", Config(learning_rate=0.5)),
    ("--dry-run", Config(dry_run=True)),
    ("--dry_run --out x", Config(dry_run=True, out="x")),
    ("--dry-run false --resume=false", Config(resume=False)),
    ("--layer-ids 2 4 -5", Config(layer_ids=[2, 4, -5])),
    ("--layer_ids [2,4]", Config(layer_ids=[2, 4])),
    ("--layer_ids 3", Config(layer_ids=[3])),
    ("--cut-points [2,4]", Config(cut_points=[2, 4])),
    ("--cut-points 2 4", Config(cut_points=[2, 4])),
    ("--cut_points 3", Config(cut_points=[3])),
    ("--cut_points null", Config(cut_points=None)),
    ("--cut-points none", Config(cut_points=None)),
    ("--limit none", Config()),
    ("--limit=none", Config()),
    ("--limit 3", Config(limit=3)),
    ("--out none", Config(out="none")),
    ("--data.max-length 9 --data.strict", Config(data=Data(max_length=9, strict=True))),
    ("--data.max_length=9", Config(data=Data(max_length=9))),
    ("--data.train-files a.jsonl b.jsonl --dry-run", Config(dry_run=True, data=Data(train_files=["a.jsonl", "b.jsonl"]))),
    ("--data.train_files a.jsonl", Config(data=Data(train_files=["a.jsonl"]))),
    ("--data.train_files 2024 true", Config(data=Data(train_files=["2024", "true"]))),
    ("--kind chain", Config(kind="chain")),
]


@pytest.mark.parametrize(("line", "expected"), ACCEPTED)
def test_what_may_be_written(line, expected):
    assert parsed(*line.split()) == expected


def test_a_value_with_spaces_stays_whole():
    assert parsed("--out", "my folder", "--data.train_files", "a b.jsonl", "c.jsonl") == Config(
        out="my folder", data=Data(train_files=["a b.jsonl", "c.jsonl"])
    )


@pytest.fixture
def yaml(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return file

    return write


def test_yaml_then_overrides(yaml):
    file = str(yaml("out: there\nlayer_ids: [1, 2]\ndata:\n  max_length: 9\n  train_files: [a]\n"))
    expected = Config(out="there", layer_ids=[1, 2], data=Data(max_length=9, train_files=["a"]))
    assert parsed("--config", file) == parsed(f"--config={file}") == expected
    overridden = parsed("--config", file, "--data.max-length", "5", "--layer-ids", "3")
    assert overridden == Config(out="there", layer_ids=[3], data=Data(max_length=5, train_files=["a"]))


def test_the_default_config_holds_only_without_config(yaml, tmp_path):
    default = tmp_path / "default.yaml"
    default.write_text("out: default\ndry_run: true\n")
    assert parsed("--kind", "chain", default_config=default) == Config(out="default", dry_run=True, kind="chain")
    assert parsed("--config", str(yaml("kind: chain\n")), default_config=default) == Config(kind="chain")


def refused(capsys, *argv: str) -> str:
    """The error of a command line that must exit with code 2 before `main` is called."""
    with pytest.raises(SystemExit) as caught:
        run_cli(pytest.fail, Config, "A test.", argv=argv)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert "--help lists all options" in output.err
    return output.err


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("--learning-rat 1", "learning_rate"),
        ("--dryrun", "dry_run"),
        ("--data.max-lenght 4", "data.max_length"),
        ("--max_length 4", "data.max_length"),
        ("--lr 4", None),
        ("--qqqqq 4", None),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(capsys, line, nearest):
    error = refused(capsys, *line.split())
    assert line.split()[0].replace("-", "_").strip("_") in error
    assert f"Did you mean --{nearest}?" in error if nearest else "Did you mean" not in error


@pytest.mark.parametrize(("text", "nearest"), [("outt: x", "out"), ("data:\n  max_lenght: 4", "data.max_length")])
def test_an_unknown_key_in_yaml_is_refused_with_the_nearest_name(capsys, yaml, text, nearest):
    assert f"Did you mean --{nearest}?" in refused(capsys, "--config", str(yaml(text)))


@pytest.mark.parametrize(
    ("line", "mentioned"),
    [
        ("--data.max_length many", ["data.max_length", "many"]),
        ("--data.max_length 1.5", ["data.max_length", "1.5"]),
        ("--learning_rate fast", ["learning_rate", "fast"]),
        ("--dry_run maybe", ["dry_run", "maybe"]),
        ("--layer_ids 1 two", ["layer_ids", "two"]),
        ("--kind tree", ["kind", "tree", "chain"]),
        ("--config /no/such/file.yaml", ["/no/such/file.yaml"]),
        ("stray", ["stray"]),
        ("--out", ["out"]),
    ],
)
def test_bad_values_are_refused_by_name(capsys, line, mentioned):
    error = refused(capsys, *line.split())
    assert all(word in error for word in mentioned)
    assert "<class" not in error
    assert "typing." not in error


def test_help_lists_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        parsed("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name} " in text for name in ("config", "out", "dry_run", "data.max_length", "data.train_files"))
    assert "default: 2048" in text


def test_help_is_laid_out_as_the_docstring_and_shows_lists_as_they_are_typed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    prose = "Trains something that takes more words than fit into one line of sixty columns."
    example = "    python train.py --data.train-files a.jsonl b.jsonl --out a/folder  # an example of over sixty columns"
    with pytest.raises(SystemExit):
        parse(Config, f"{prose}\n\n{example}\n{example}\n\nThe end.", ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: ")
    assert lines[0].endswith("[options]")
    assert lines[1] == ""
    at = lines.index(example)
    assert " ".join(lines[2 : at - 1]) == prose
    assert all(len(line) <= 60 for line in lines[2 : at - 1])
    assert lines[at - 1 : at + 4] == ["", example, example, "", "The end."]
    text = " ".join(" ".join(lines).split())
    assert "--layer_ids LAYER_IDS ... " in text
    assert "--data.train_files TRAIN_FILES ... " in text
    assert "--cut_points CUT_POINTS ... (type: list[int] | null, default: null)" in text
    assert "ITEM" not in text
    assert "{draft,chain} (default: draft)" in text
    assert "(type: float, default: 0.001)" in text
    assert "A list takes several words" in text


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("/somewhere/data_recipes/__main__.py", "python -m data_recipes"),
        ("python -m data_recipes my/mix.yaml", "python -m data_recipes my/mix.yaml"),
    ],
)
def test_a_package_is_named_as_the_user_called_it(capsys, monkeypatch, called, said):
    spec = SimpleNamespace(name="data_recipes.__main__", parent="data_recipes")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [called])
    assert f"\n{said} --help lists all options" in refused(capsys, "--qqqqq", "4")


def stop(error: BaseException):
    def main(_: Config):
        raise error

    return main


def test_exit_codes(capsys):
    seen = []
    assert run_cli(seen.append, Config, None, argv=["--out", "x"]) == 0
    assert seen == [Config(out="x")]
    assert run_cli(lambda config: 130, Config, None, argv=[]) == 130
    assert capsys.readouterr().err == ""
    assert run_cli(stop(UserError("No such target. Give a folder.")), Config, None, argv=[]) == 2
    assert capsys.readouterr().err == "error: No such target. Give a folder.\n"
    assert run_cli(stop(KeyboardInterrupt()), Config, None, argv=[]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert run_cli(pytest.fail, Config, None, argv=["--data.max_length", "0"]) == 2
    assert capsys.readouterr().err == "error: data.max_length must be greater than 0, found 0.\n"


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(stop(ZeroDivisionError()), Config, None, argv=[])


def test_errors_of_the_operating_system_are_one_line_and_others_are_ours(capsys, tmp_path):
    assert run_cli(lambda _: (tmp_path / "none").read_text(), Config, None, argv=[]) == 2
    assert capsys.readouterr().err == f"error: [Errno 2] No such file or directory: '{tmp_path / 'none'}'\n"
    with pytest.raises(OSError, match="a library's"):
        run_cli(stop(OSError("a library's")), Config, None, argv=[])

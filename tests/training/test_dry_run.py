"""`vlm-eagle train --dry-run`: says what a run needs from a config.json alone, and leaves nothing behind."""

import json
import re
from pathlib import Path

import pytest
from model_configs import MODELS
from transformers import AutoConfig

from vlm_eagle.cli import CONFIGS, parse, run_cli
from vlm_eagle.commands.train import main
from vlm_eagle.config import DataConfig, DraftConfig, TrainCommand, TrainConfig
from vlm_eagle.draft.vocab import DraftVocab, write_vocabulary
from vlm_eagle.target.load import DEMO_TARGET
from vlm_eagle.training.dry_run import make_plan

READY = sorted(CONFIGS.glob("*.yaml"))


@pytest.fixture
def dry_run(tmp_path, monkeypatch, capsys):
    """Runs the script's main in an empty folder on a target that is only a config.json; returns exit code and words."""
    for variable in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    place, model = tmp_path / "place", tmp_path / "model"
    place.mkdir(), model.mkdir()
    monkeypatch.chdir(place)

    def run(config: dict, *argv: str) -> tuple[int, str]:
        (model / "config.json").write_text(json.dumps(config))
        code = run_cli(main, TrainCommand, "", argv=[*argv, "--target", str(model), "--dry-run"])
        assert list(place.iterdir()) == [], "a dry run writes nothing"
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def config_json(file: Path) -> dict:
    name = parse(TrainCommand, "", ["--config", str(file)]).target
    return MODELS[name][0] if name in MODELS else json.loads((DEMO_TARGET / "config.json").read_text())


@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_every_config(dry_run, file):
    code, said = dry_run(config_json(file), "--config", str(file), "--memory-gib", "1000")
    assert code == 0
    for words in ("Parameters", "target's weights", "Arithmetic", "GiB of disk per million tokens", "It fits"):
        assert words in said


@pytest.mark.parametrize("file", [f for f in READY if "demo" not in f.stem], ids=lambda file: file.stem)
def test_headers_say_what_the_dry_run_says(dry_run, monkeypatch, file):
    """The header of a ready config names its memory, the device it is for, and how much may be supervised there."""
    header = file.read_text()
    needs, device, most = re.search(r"([\d.]+) GiB; on [^,]*, ([\d.]+) GiB, up to (\d+) %", header).groups()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16" if "launch --mixed_precision bf16" in header else "no")
    code, said = dry_run(config_json(file), "--config", str(file), "--memory-gib", device)
    assert code == 0
    assert f"It fits: {needs} of {float(device):.2f} GiB" in said
    assert f"at most {most}% of it is supervised" in said


def test_all_models_have_a_config():
    assert {parse(TrainCommand, "", ["--config", str(f)]).target for f in READY} >= set(MODELS)


def test_too_much_is_said_with_advice(dry_run):
    config = MODELS["Qwen/Qwen3-8B"][0]
    code, said = dry_run(
        config, "--memory-gib", "24", "--batch-size", "4", "--gradient-accumulation-steps", "2", "--supervised-fraction", "0.3"
    )
    assert code == 1
    for words in (
        "It does not fit",
        "--batch-size 1 --gradient-accumulation-steps 8",
        "--data.max-length 1024",
        "vlm-eagle capture",
    ):
        assert words in said
    assert "FSDP" not in said, "one device has nobody to share with"


def test_precision_is_that_of_the_launch(dry_run, monkeypatch):
    """16 bits are smaller for many anchors, float32 for few: copies of the weights are not worth it then."""
    config, small = MODELS["Qwen/Qwen3-8B"][0], ("--batch-size", "1", "--memory-gib", "20")
    _, said = dry_run(config, *small)
    assert "16-bit copies" in said
    assert "--mixed_precision no" in said
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    _, said = dry_run(config, *small)
    assert "16-bit copies" not in said
    assert "--mixed_precision" not in said


@pytest.mark.parametrize(
    ("argv", "words", "absent"),
    [
        ([], ["Features from the target.", "draft at anchors", "pixels"], ["computed again", "visual embeddings"]),
        (
            ["--draft.gradient-checkpointing", "true"],
            ["inputs of the steps", "computed again for the gradient"],
            ["draft at anchors"],
        ),
        (["--data.features", "f"], ["Features from a store.", "aux hidden states"], ["captured hidden", "pixels"]),
        (["--data.features", "f", "--data.fill", "true"], ["then a store", "aux hidden states", "captured hidden"], []),
        (["--draft.image-inputs", "mixed"], ["visual embeddings"], []),
    ],
    ids=["online", "gradient_checkpointing", "offline", "fill", "mixed"],
)
def test_settings_that_change_what_is_held(dry_run, argv, words, absent):
    config = MODELS["Qwen/Qwen3-VL-2B-Instruct"][0]
    code, said = dry_run(config, "--batch-size", "1", "--gradient-accumulation-steps", "8", "--memory-gib", "80", *argv)
    said = " ".join(said.split())
    assert code == 0
    assert [w for w in words if w not in said] == []
    assert [w for w in absent if w in said] == []


def test_several_devices(dry_run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    code, said = dry_run(MODELS["Qwen/Qwen3-8B"][0], "--memory-gib", "20")
    assert code == 1
    assert "4 devices share" in said
    monkeypatch.setenv("RANK", "1")
    assert dry_run(MODELS["Qwen/Qwen3-8B"][0], "--memory-gib", "20") == (1, "")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--supervised-fraction", "0"], "supervised_fraction"),
        (["--image-fraction", "1.5"], "image_fraction"),
        (["--memory-gib", "0"], "memory_gib"),
        (["--draft.layer-ids", "4", "3", "2"], "ascending"),
    ],
)
def test_settings_without_sense_are_refused(dry_run, argv, words):
    code, said = dry_run(MODELS["Qwen/Qwen3-8B"][0], *argv)
    assert code == 2
    assert words in said


def test_the_plan_is_the_commands(monkeypatch, tmp_path):
    """Every setting that decides what a run needs arrives in the estimate."""
    config = AutoConfig.for_model(**MODELS["Qwen/Qwen3-VL-2B-Instruct"][0])
    write_vocabulary(tmp_path / "v.json", DraftVocab.from_ids(range(500), 151_936))
    draft = DraftConfig(fc_norm=True, norm_output=True, loss="lk_alpha", vocab_file=str(tmp_path / "v.json"))
    command = TrainCommand(
        supervised_fraction=0.3, image_fraction=0.9, target_dtype="float32", draft=draft, max_tokens=9000,
        data=DataConfig(max_length=2048),
    )  # fmt: skip
    plan, plain = make_plan(command, config), make_plan(TrainCommand(llm_only=True, memory_gib=24), config)
    assert plan.work.image_fraction == pytest.approx(0.7), "what is supervised is no image"
    assert (plan.work.batch_size, plan.work.loss, plan.target.value_bytes) == (4, "lk_alpha", 4)
    assert (plan.draft.config.draft_vocab_size, plan.draft.config.fc_norm, plan.draft.config.norm_output) == (500, True, True)
    assert (plain.work.image_fraction, plain.target.value_bytes, plain.work.sharded) == (0.0, 2, False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert make_plan(TrainCommand(), config).target.value_bytes == 4, "auto is float32 on a CPU"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert make_plan(TrainCommand(), config).work.sharded


def test_the_budget_without_a_number_is_this_machine(dry_run):
    _, said = dry_run(json.loads((DEMO_TARGET / "config.json").read_text()))
    assert re.search(r"budget: (this machine|NVIDIA)", said)


def test_the_run_itself_does_not_know_of_it():
    command = TrainCommand(dry_run=True, memory_gib=24, seed=3)
    assert command.run() == TrainConfig(seed=3)

"""`vlm-eagle train --dry-run`: says what a run needs from a config.json alone, and leaves nothing behind."""

import json
import re
from pathlib import Path

import pytest
import torch
from model_configs import MODELS
from transformers import AutoConfig

from vlm_eagle.cli import CONFIGS, parse, run_cli
from vlm_eagle.commands.train import main
from vlm_eagle.config import DraftConfig, TrainCommand, TrainConfig
from vlm_eagle.draft.vocab import DraftVocab, write_vocabulary
from vlm_eagle.target.load import DEMO_TARGET
from vlm_eagle.training.dry_run import scenario_of
from vlm_eagle.training.footprint import target_dtype

READY = sorted(CONFIGS.glob("*.yaml"))
DEMO_CONFIG = json.loads((DEMO_TARGET / "config.json").read_text())
SMALL = MODELS["Qwen/Qwen3-8B"][0] | {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32,
}  # fmt: skip
LARGER = SMALL | {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 24, "head_dim": 128}


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
    return MODELS[name][0] if name in MODELS else DEMO_CONFIG


@pytest.mark.slow
@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_ready_configs_need_what_their_headers_say(dry_run, monkeypatch, file):
    """The header names the memory, the device it is for, and how much may be supervised there."""
    header = re.search(r"([\d.]+) GiB; on [^,]*, ([\d.]+) GiB, up to (\d+) %", file.read_text())
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16" if "launch --mixed_precision bf16" in file.read_text() else "no")
    code, said = dry_run(config_json(file), "--config", str(file), "--memory-gib", header[2] if header else "1000")
    assert code == 0
    for words in ("Parameters", "weights of the target", "Arithmetic", "GiB of disk per million tokens", "It fits"):
        assert words in said
    if header:
        assert f"It fits: {header[1]} of {float(header[2]):.2f} GiB" in said
        assert f"at most {header[3]}% of it is supervised" in said
    else:
        assert "demo" in file.stem


def test_all_models_have_a_config():
    assert {parse(TrainCommand, "", ["--config", str(f)]).target for f in READY} >= set(MODELS)


@pytest.mark.slow
def test_too_much_is_said_with_advice(dry_run):
    code, said = dry_run(
        LARGER, "--memory-gib", "0.7", "--batch-size", "2", "--gradient-accumulation-steps", "4", "--supervised-fraction", "0.3"
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
    small = ("--batch-size", "1", "--memory-gib", "80", "--data.max-length", "512")
    _, said = dry_run(SMALL, *small)
    assert "draft in 16 bits" in " ".join(said.split())
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    _, other = dry_run(SMALL, *small)
    assert "draft in float32" in " ".join(other.split())
    needs = [float(re.search(r"It fits: ([\d.]+)", text)[1]) for text in (said, other)]
    assert needs[0] < needs[1]


@pytest.mark.parametrize(
    ("argv", "words", "absent"),
    [
        ([], ["Features from the target.", "activations of the draft", "pixels"], ["recomputed", "visual embeddings"]),
        (
            ["--draft.gradient-checkpointing", "true"],
            ["inputs of the TTT steps", "recomputed for the gradient"],
            ["activations of the draft"],
        ),
        (["--data.features", "f"], ["Features from a store.", "aux hidden states"], ["captured states", "pixels"]),
        (
            ["--data.features", "f", "--data.capture-during-training", "true"],
            ["then a store", "aux hidden states", "captured states"],
            [],
        ),
        (["--draft.image-inputs", "mixed"], ["visual embeddings"], []),
    ],
    ids=["online", "gradient_checkpointing", "offline", "capture_during_training", "mixed"],
)
def test_settings_that_change_what_is_held(dry_run, argv, words, absent):
    code, said = dry_run(
        DEMO_CONFIG,
        "--data.max-length",
        "512",
        "--batch-size",
        "1",
        "--gradient-accumulation-steps",
        "8",
        "--memory-gib",
        "80",
        *argv,
    )
    said = " ".join(said.split())
    assert code == 0
    assert [w for w in words if w not in said] == []
    assert [w for w in absent if w in said] == []


def test_several_devices(dry_run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    small = ("--memory-gib", "0.7", "--batch-size", "1", "--data.max-length", "256")
    code, said = dry_run(LARGER, *small)
    assert code == 1
    assert "4 devices share" in said
    monkeypatch.setenv("RANK", "1")
    assert dry_run(LARGER, *small) == (1, "")


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


def test_the_scenario_is_the_commands(monkeypatch, tmp_path):
    config = AutoConfig.for_model(**MODELS["Qwen/Qwen3-VL-2B-Instruct"][0])
    write_vocabulary(tmp_path / "v.json", DraftVocab.from_ids(range(500), 151_936))
    draft = DraftConfig(fc_norm=True, norm_output=True, vocab_file=str(tmp_path / "v.json"))
    command = TrainCommand(target_dtype="float32", draft=draft, max_tokens=9000, memory_gib=24)
    scenario, plain = scenario_of(command, config), scenario_of(TrainCommand(memory_gib=24), config)
    assert (scenario.batch_size, target_dtype(scenario, config), scenario.device) == (4, torch.float32, "cuda")
    assert (scenario.draft.draft_vocab_size, scenario.draft.fc_norm, scenario.draft.norm_output) == (500, True, True)
    assert (plain.command.shard, target_dtype(plain, config)) == (False, torch.bfloat16)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert target_dtype(scenario_of(TrainCommand(), config), config) == torch.float32, "auto is float32 on a CPU"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert scenario_of(TrainCommand(), config).command.shard


def test_the_budget_without_a_number_is_this_machine(dry_run):
    _, said = dry_run(DEMO_CONFIG)
    assert re.search(r"budget: (this machine|NVIDIA)", said)


def test_the_run_itself_does_not_know_of_it():
    command = TrainCommand(dry_run=True, memory_gib=24, seed=3)
    assert command.train_config() == TrainConfig(seed=3)

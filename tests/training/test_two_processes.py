"""Two processes take the steps that one takes with twice the batch, stop together, and continue together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from processes import ROOT, Script, draft_of, log_of, options
from waiting import LIMIT, wait_for

from vlm_eagle.errors import UserError
from vlm_eagle.training import sharding
from vlm_eagle.training.feature_store import FeatureStore

pytestmark = pytest.mark.multi_process

COMPARED = {"max_steps": 8, "optim__lr": 1e-4}
CONFIGS = ROOT / "scripts" / "configs" / "accelerate"


def assert_close_runs(ours, theirs):
    for one, other in zip(log_of(ours), log_of(theirs), strict=True):
        assert [line["step"] for line in one] == [line["step"] for line in other]
        for a, b in zip(one, other, strict=True):
            assert a.keys() == b.keys()
            for name in a:
                assert a[name] == pytest.approx(b[name], abs=1e-3 if "norm" in name else 2e-4), (name, a, b)
    weights = draft_of(ours)
    for name, expected in draft_of(theirs).items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
    one, other = (json.loads((out / "run.json").read_text()) for out in (ours, theirs))
    for name in ("steps", "step", "skipped", "finished", "samples", "draft_vocab_coverage"):
        assert one[name] == other[name], name


def train(data, out, ranks=1, **more):
    argv = options(data, out, **{**COMPARED, **more})
    return Script("train_vlm.py", argv, out.with_suffix(".txt"), ranks)


def test_two_processes_equal_one(data, tmp_path):
    """Two started by accelerate's own launcher with the CPU configuration; one with a batch of 4, or 2 x 2."""
    for name, size, gradient_accumulation_steps in (("one", 4, 1), ("accumulated", 2, 2)):
        train(data, tmp_path / name, batch_size=size, gradient_accumulation_steps=gradient_accumulation_steps).finish()
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu.yaml")]
    argv = [str(ROOT / "scripts" / "train_vlm.py"), *options(data, tmp_path / "two", batch_size=2, **COMPARED)]
    done = subprocess.run([*launch, *argv], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Draft: ") == 1, "two trainings instead of one"
    assert_close_runs(tmp_path / "two", tmp_path / "one")
    assert_close_runs(tmp_path / "two", tmp_path / "accumulated")


def test_a_rank_that_has_only_bad_rows(data, tmp_path):
    """More bad rows than good ones: now one rank, now both have none that can be used."""
    file = data / "mostly_bad.jsonl"
    file.write_text("{\n" * 17 + (data / "train.jsonl").read_text())
    more = {"data__train": file, "eval_steps": 3}
    train(data, tmp_path / "one", batch_size=2, **more).finish()
    said = train(data, tmp_path / "two", 2, batch_size=1, **more).finish()
    assert "Skipped samples: bad JSON" in said
    assert_close_runs(tmp_path / "two", tmp_path / "one")


def test_ctrl_c_leaves_a_checkpoint_and_resumes(data, tmp_path):
    ranks = 2
    never = 1_000_000  # steps: more than it will take, or that anything else is written after
    more = {
        "max_steps": never,
        "epochs": never,
        "save_steps": never,
        "eval_steps": never,
        "data__num_workers": 1,
        "batch_size": 2,
    }
    script = train(data, tmp_path / "run", ranks, **more)
    wait_for("three steps", lambda: len(_log(tmp_path / "run")) >= 3, script)
    script.interrupt()
    assert script.wait() == [130] * ranks, script.output.read_text()
    (file,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(file.stem.removeprefix("step-"))
    said = script.output.read_text()
    assert said.count("Stopping after this step") == 1
    assert f"Interrupted at step {step}" in said
    assert "Traceback" not in said
    script = train(data, tmp_path / "run", ranks, **more)
    wait_for("five more", lambda: len(_log(tmp_path / "run")) >= step + 5, script)
    script.interrupt()
    assert script.wait() == [130] * ranks
    assert f"Continuing from step {step}" in script.output.read_text()
    steps = [line["step"] for line in log_of(tmp_path / "run")[0]]
    assert steps == list(range(1, len(steps) + 1))


def _log(out):
    return (out / "log.jsonl").read_bytes().splitlines() if (out / "log.jsonl").is_file() else []


def test_sharded_equals_whole_and_each_continues_the_other(data, tmp_path):
    """FSDP2 with Muon and AdamW; 5 held-out rows in batches of 1, so that ranks evaluate different numbers of batches."""
    (data / "five.jsonl").write_text("".join((data / "train.jsonl").read_text().splitlines(keepends=True)[:5]))
    more = {"data__eval": data / "five.jsonl", "batch_size": 1, "gradient_accumulation_steps": 2}
    train(data, tmp_path / "whole", **more | {"batch_size": 4, "gradient_accumulation_steps": 1}).finish()
    train(data, tmp_path / "sharded", 2, shard="true", **more).finish()
    assert_close_runs(tmp_path / "sharded", tmp_path / "whole")
    for shard in ("true", "false"):
        out = tmp_path / f"continued-{shard}"
        shutil.copytree(tmp_path / "sharded", out)
        (out / "checkpoints" / "step-8.pt").unlink()
        assert "Continuing from step 6" in train(data, out, 2, shard=shard, **more).finish()
        assert_close_runs(out, tmp_path / "whole")


def test_two_processes_capture_what_one_captures(data, tmp_path):
    for name, ranks in (("one", 1), ("two", 2)):
        argv = options(data, tmp_path, data__features=tmp_path / name, batch_size=1, draft__image_inputs="visual_embeds")
        Script("capture_features.py", argv, tmp_path / f"{name}.txt", ranks).finish()
    for part in ("train", "eval"):
        one, two = (FeatureStore(tmp_path / name / part) for name in ("one", "two"))
        assert one.missing == two.missing == []
        assert one.manifest == two.manifest
        assert torch.equal(one.counts, two.counts)
        assert len({file for file, _ in two.index.values()}) == 2, "each process wrote its share"
        for row in range(len(one)):
            a, b = vars(one[row]), vars(two[row])
            assert a.pop("id") == b.pop("id")
            for name in [name for name in a if a[name] is not None or b[name] is not None]:
                torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-4)


def test_two_processes_fill_a_store_and_train_from_it(data, tmp_path):
    """Steps of 2 x 5 of 12 rows: two are captured after the first epoch, by one process each."""
    store = {"data__features": tmp_path / "store"}
    train(data, tmp_path / "fill", 2, data__capture_during_training="true", batch_size=5, max_steps=3, **store).finish()
    assert FeatureStore(tmp_path / "store" / "train").missing == []
    train(data, tmp_path / "one", 1, batch_size=4, data__eval="[]", **store).finish()
    train(data, tmp_path / "two", 2, batch_size=2, data__eval="[]", **store).finish()
    assert_close_runs(tmp_path / "two", tmp_path / "one")


def test_a_shared_target_teaches_what_a_whole_one_does(data, tmp_path):
    """Images on one rank and not on the other, ranks without usable rows, and 5 held-out rows: nobody may wait for ever."""
    file = data / "half_bad.jsonl"
    file.write_text("{\n" * 12 + (data / "train.jsonl").read_text())
    (data / "five.jsonl").write_text("".join((data / "train.jsonl").read_text().splitlines(keepends=True)[:5]))
    more = {"data__train": file, "data__eval": data / "five.jsonl", "draft__image_inputs": "mixed", "batch_size": 1}
    train(data, tmp_path / "shared", 2, shard_target="true", **more).finish()
    train(data, tmp_path / "whole", 2, **more).finish()
    assert log_of(tmp_path / "shared") == log_of(tmp_path / "whole")
    expected = draft_of(tmp_path / "whole")
    assert all(torch.equal(weight, expected[name]) for name, weight in draft_of(tmp_path / "shared").items())
    train(data, tmp_path / "alone", shard_target="true", **more | {"max_steps": 1}).finish()
    store = {"data__features": tmp_path / "store", "shard_target": "true"}
    said = Script("capture_features.py", options(data, tmp_path, **store), tmp_path / "capture.txt", 2)
    assert 2 in said.wait()  # the other one may notice first that its partner is gone
    assert "Start one process" in said.output.read_text()


def test_layers_are_split(tmp_path):
    """Each of two processes holds half of every decoder layer, and the whole of everything else."""
    script = tmp_path / "probe.py"
    script.write_text(
        "from accelerate import Accelerator\n"
        "from torch.distributed.tensor import DTensor\n"
        "from vlm_eagle.target.load import load_target\n"
        "from vlm_eagle.training.sharding import shard_target\n"
        "target = load_target('demo')\n"
        "before = sum(p.numel() for p in target.decoder.layers.parameters())\n"
        "shard_target(target, Accelerator(cpu=True))\n"
        "here = sum(p.to_local().numel() for p in target.decoder.layers.parameters())\n"
        "assert abs(here - before / 2) < 0.02 * before, (here, before)\n"
        "assert not isinstance(target.embed_tokens.weight, DTensor)\n"
    )
    Script(script, [], tmp_path / "probe.txt", 2).finish()


def test_sharding_by_accelerate(monkeypatch):
    """A config file may ask for FSDP2 in place of --shard; FSDP1 is refused."""
    monkeypatch.setattr(sharding, "fully_shard", lambda module, mesh: (module, mesh))
    monkeypatch.setattr(sharding, "init_device_mesh", lambda device, shape: (device, shape))
    one = SimpleNamespace(distributed_type=DistributedType.FSDP, num_processes=8, device=torch.device("cpu"))
    one.is_fsdp2 = True
    assert sharding.prepare(one, "module", False) == ("module", ("cpu", (8,)))
    one.is_fsdp2 = False
    with pytest.raises(UserError, match="fsdp_version: 2"):
        sharding.prepare(one, "module", False)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_accelerate_reads_the_configs(file):
    keys = yaml.safe_load(file.read_text())
    config = load_config_from_file(str(file))  # refuses unknown keys
    assert config.num_processes == keys["num_processes"]
    args = launch_command_parser().parse_args(["--config_file", str(file), str(Path("train.py"))])
    args, _, _ = _validate_launch_command(args)
    assert (args.num_processes, args.num_machines) == (keys["num_processes"], keys["num_machines"])
    assert args.mixed_precision == keys["mixed_precision"]
    assert args.multi_gpu == (keys["distributed_type"] == "MULTI_GPU")
    assert args.use_fsdp == (keys["distributed_type"] == "FSDP")

"""A run that is killed again and again ends exactly where an uninterrupted one does."""

import json
import shutil

import pytest
import torch
from interference import KilledAt
from processes import Script, checkpoint_of, draft_of, log_of, options
from runs import configure, trainer_for
from waiting import wait_for

from vlm_eagle.errors import UserError
from vlm_eagle.training import checkpoint

pytestmark = pytest.mark.multi_process

STEPS = 12


FIRST_CHECKPOINT = KilledAt("writing.tmp", is_torn=True)  # of step 2
LATER_CHECKPOINT = KilledAt("writing.tmp", nth=2)  # complete, but without its name
BETWEEN_DRAFT_FILES = KilledAt(".writing-", nth=2)  # the weights are in place, config.json is not
ANYWHERE = None  # from outside, a few steps after it began to write its log


def killed(data, out, kills, **more):
    """Runs train_vlm.py to its end, killing it on the way."""
    argv = options(data, out, max_steps=STEPS, **more)
    for kill in kills:
        script = Script("train_vlm.py", argv, out.with_suffix(".txt"), before=kill)
        if kill is ANYWHERE:
            _wait_for_steps(script, out / "log.jsonl", 2)
            script.kill()
        assert script.wait() == [-9], script.output.read_text()
        assert checkpoint.latest(out / "checkpoints") is None or checkpoint.latest(out / "checkpoints")["step"] < STEPS
    Script("train_vlm.py", argv, out.with_suffix(".txt")).finish()


def _wait_for_steps(script, log, steps):
    """Lines beyond those that a resumed run keeps; it begins by cutting the log to these."""
    lines = lambda: log.read_bytes().count(b"\n") if log.is_file() else 0
    before = lines()
    wait_for(f"{steps} steps", lambda: abs(lines() - before) >= steps, script)


def assert_equal_runs(out, whole):
    ours, theirs = draft_of(out), draft_of(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert same(checkpoint_of(out, STEPS), checkpoint_of(whole, STEPS), but=("identity",))
    assert log_of(out) == log_of(whole)
    assert [line["step"] for line in log_of(out)[0]] == list(range(1, STEPS + 1))
    assert json.loads((out / "run.json").read_text())["finished"]
    assert sorted(file.name for file in (out / "checkpoints").iterdir()) == [f"step-{STEPS - 2}.pt", f"step-{STEPS}.pt"]
    assert sorted(file.name for file in (out / "draft").iterdir()) == ["config.json", "model.safetensors"]
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


def same(ours, theirs, but=()):
    """Whether nested states are equal, to the last bit."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours if k not in but)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    Script("train_vlm.py", options(data, out, max_steps=STEPS), out.with_suffix(".txt")).finish()
    return out


def test_online(data, whole, tmp_path):
    killed(data, tmp_path / "run", [FIRST_CHECKPOINT, BETWEEN_DRAFT_FILES, ANYWHERE, LATER_CHECKPOINT])
    assert_equal_runs(tmp_path / "run", whole)


def test_from_a_feature_store(data, tmp_path):
    features = {"data__features": tmp_path / "store"}
    Script("capture_features.py", options(data, tmp_path, **features), tmp_path / "capture.txt").finish()
    Script("train_vlm.py", options(data, tmp_path / "whole", **features), tmp_path / "whole.txt").finish()
    killed(data, tmp_path / "run", [BETWEEN_DRAFT_FILES, LATER_CHECKPOINT], **features)
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def test_while_filling_a_store(data, tmp_path):
    """36 rows, steps of 5: the first epoch ends after 7 steps, and leaves a row out, which is captured before the second."""
    (data / "thrice.jsonl").write_text((data / "train.jsonl").read_text() * 3)
    ends = []
    for name, kills in (("whole", []), ("run", [LATER_CHECKPOINT, BETWEEN_DRAFT_FILES])):
        fill = {"data__features": tmp_path / f"{name}-store", "data__capture_during_training": "true", "batch_size": 5}
        fill["data__train"] = data / "thrice.jsonl"
        killed(data, tmp_path / name, kills, **fill)
        ends.append(tmp_path / name)
    assert_equal_runs(*ends)


BROKEN = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "zeros at the end": lambda content: content[:-10_000] + bytes(10_000),
    "one bit": lambda content: content[:400_000] + bytes([content[400_000] ^ 1]) + content[400_001:],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_checkpoint_is_passed_over(whole, tmp_path, how):
    for step in (10, 12):
        (tmp_path / f"step-{step}.pt").write_bytes((whole / "checkpoints" / f"step-{step}.pt").read_bytes())
    said = []
    assert checkpoint.latest(tmp_path, said.append)["step"] == 12
    newest = tmp_path / "step-12.pt"
    newest.write_bytes(BROKEN[how](newest.read_bytes()))
    assert checkpoint.latest(tmp_path, said.append)["step"] == 10
    assert len(said) == 1
    assert "step-12.pt cannot be read" in said[0]
    (tmp_path / "step-10.pt").write_bytes(b"")
    with pytest.raises(UserError, match="--resume false"):
        checkpoint.latest(tmp_path, said.append)


def test_a_run_goes_on_from_the_checkpoint_before_a_broken_one(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-12.pt").write_bytes(b"")
    argv = options(data, tmp_path / "run", max_steps=STEPS)
    said = Script("train_vlm.py", argv, tmp_path / "said.txt").finish()
    assert "cannot be read" in said
    assert "Continuing from step 10 of 12" in said
    assert_equal_runs(tmp_path / "run", whole)


def test_a_full_disk_leaves_the_checkpoints_before_it(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 2, {"step": 2}, keep=2)

    def full(state, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(tmp_path, 4, {"step": 4}, keep=2)
    assert checkpoint.latest(tmp_path)["step"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["step-2.pt"]


def test_two_runs_differ_in_the_words_of_the_command_line():
    was = json.dumps([{"seed": 0, "optim": {"lr": 0.1, "max_grad_norm": 1.0}, "gone": 1}, "a hash", 1])
    now = json.dumps([{"seed": 0, "optim": {"lr": 0.2, "max_grad_norm": 1.0}, "new": True}, "another", 2])
    assert checkpoint.differences(was, was) == []
    assert checkpoint.differences(was, now) == [
        "optim.lr 0.1, now 0.2", "gone 1, now None", "new None, now True", "other training data", "another number of processes",
    ]  # fmt: skip


def test_training_anew_replaces_the_checkpoints_of_before(tmp_path):
    for step in (10, 12, 2):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert checkpoint.latest(tmp_path)["step"] == 2


def test_a_log_line_half_written_is_dropped(data, tmp_path):
    first = trainer_for(configure(data, tmp_path, max_steps=4))
    step = first._optimizer_step

    def killed_at_three(*args):
        if first.step == 3:
            raise KeyboardInterrupt
        return step(*args)

    first._optimizer_step = killed_at_three
    with pytest.raises(KeyboardInterrupt):
        first.train()
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert trainer_for(configure(data, tmp_path, max_steps=4)).train()
    assert [line["step"] for line in log_of(tmp_path)[0]] == [1, 2, 3, 4]


def test_killed_before_the_result_was_written(data, tmp_path):
    trainer_for(configure(data, tmp_path, max_steps=2)).train()
    (tmp_path / "run.json").unlink()
    assert trainer_for(configure(data, tmp_path, max_steps=2)).train()
    assert json.loads((tmp_path / "run.json").read_text())["finished"]

"""What `log.jsonl` and a tracker are told of a step."""

import json
from types import SimpleNamespace

import torch
from rich.console import Console

from vlm_eagle.training.metrics import StepAcceptance
from vlm_eagle.training.progress import TrainProgress

LINE = {
    "loss": 2.5, "acceptance": StepAcceptance(torch.tensor([8, 5]), torch.tensor([10, 10])), "gradient_norm": 0.75, "lr": 1e-3,
    "tokens": 400, "supervised": 100, "target_seconds": 0.5,
}  # fmt: skip


def test_a_step_is_logged_per_second_and_per_token(tmp_path):
    tracked = []
    accelerator = SimpleNamespace(is_main_process=True, log=lambda numbers, step: tracked.append((step, numbers)))
    with TrainProgress(Console(quiet=True), 10, 0, tmp_path / "log.jsonl", accelerator) as progress:
        progress.step(1, LINE, seconds=2.0)
        progress.note(1, "", 1.5, LINE["acceptance"])
    step, eval = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert step == {
        "step": 1, "loss": 2.5, "simulated_acceptance_length": 2.2, "acceptance": [0.8, 0.5], "tokens_per_second": 200.0,
        "supervised_fraction": 0.25, "target_share": 0.25, "gradient_norm": 0.75, "lr": 1e-3,
    }  # fmt: skip
    assert eval["eval_loss"] == 1.5
    assert [number for number, _ in tracked] == [1, 1]
    assert tracked[0][1] == {name: value for name, value in step.items() if name not in ("step", "acceptance")}
    assert tracked[1][1] == {"eval_loss": 1.5, "eval_simulated_acceptance_length": 2.2}


def test_a_run_begun_anew_begins_its_log_anew(tmp_path):
    log, accelerator = tmp_path / "log.jsonl", SimpleNamespace(is_main_process=True)
    lines = [json.dumps({"step": n}) for n in (1, 2, 2, 3)]
    for start, kept in ((2, lines[:3]), (0, [])):
        log.write_text("\n".join([*lines, '{"step": ']))
        with TrainProgress(Console(quiet=True), 10, start, log, accelerator):
            pass
        assert log.read_text().splitlines() == kept

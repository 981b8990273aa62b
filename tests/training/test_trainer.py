"""The loop: it learns, cutting a step differently changes nothing, an interrupted run ends where an uninterrupted one does."""

import json
import signal
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from rich.console import Console
from runs import configure, trainer_for, weights
from transformers import AutoConfig

from vlm_eagle.config import TrainCommand
from vlm_eagle.data.conversation import BadRow
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import DEMO_TARGET
from vlm_eagle.training import sharding
from vlm_eagle.training.dry_run import scenario_of
from vlm_eagle.training.launch import check_precision
from vlm_eagle.training.metrics import StepAcceptance
from vlm_eagle.training.order import MicroBatches, Order
from vlm_eagle.training.setup import build_setup
from vlm_eagle.training.teacher import teach
from vlm_eagle.training.trainer import Trainer


@pytest.mark.slow
def test_learns_and_leaves_a_draft(data, tmp_path):
    trainer = trainer_for(configure(data, tmp_path, max_steps=40, eval_steps=40, epochs=20, lr=1e-2))
    before, _ = trainer.evaluate()
    assert trainer.train()
    after, acceptance = trainer.evaluate()
    assert after < 0.9 * before
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["finished"]
    assert run["best_simulated_acceptance_length"] == pytest.approx(acceptance.simulated_acceptance_length)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "loss" in row] == list(range(1, 41))
    assert all(0 < row["target_share"] < 1 for row in log if "loss" in row)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    saved = Eagle3Draft.from_pretrained(tmp_path / "draft")
    assert torch.equal(saved.fc.weight, trainer.setup.draft.fc.weight)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_accumulation_equals_a_larger_batch(data, tmp_path, optimizer):
    """1 x 4, 2 x 2 and 4 x 1 take the same rows and make the same gradients, losses and steps."""
    ends, losses = [], []
    for size in (1, 2, 4):
        options = {
            "batch_size": size,
            "gradient_accumulation_steps": 4 // size,
            "optimizer": optimizer,
            "max_steps": 3,
            "lr": 1e-4,
        }
        trainer = trainer_for(configure(data, tmp_path / f"{optimizer}{size}", **options))
        trainer.train()
        ends.append(weights(trainer))
        log = (tmp_path / f"{optimizer}{size}" / "log.jsonl").read_text().splitlines()
        losses.append([row["loss"] for row in map(json.loads, log) if "loss" in row])
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], abs=2e-4)
        torch.testing.assert_close(ends[other], ends[0], rtol=1e-3, atol=2e-5)


GOLDEN = Path(__file__).parent / "golden_losses.json"


@pytest.mark.slow
def test_golden_losses(data, tmp_path):
    """A refactor reproduces them. A change of numerics records new ones, with the reason in its commit: delete the file and
    run this test once."""
    trainer_for(configure(data, tmp_path, optimizer="adamw", lr=1e-3, max_steps=6)).train()
    losses = [row["loss"] for row in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if "loss" in row]
    if not GOLDEN.is_file():
        GOLDEN.write_text(json.dumps(losses) + "\n")
        pytest.fail(f"recorded {losses}; run again")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-3)


@pytest.mark.slow
def test_bfloat16_keeps_float32_master_weights(data, tmp_path):
    """Mixed precision computes nearby losses, and what it updates is float32."""
    losses = []
    for precision in ("no", "bf16"):
        config, accelerator = (
            configure(data, tmp_path / precision, max_steps=6),
            Accelerator(cpu=True, mixed_precision=precision),
        )
        trainer = Trainer(config, build_setup(config, accelerator), accelerator, Console(quiet=True))
        trainer.train()
        assert {p.dtype for p in trainer.setup.draft.parameters()} == {torch.float32}
        state = [v for o in trainer.optimizers for s in o.state.values() for v in s.values() if torch.is_tensor(v)]
        assert {v.dtype for v in state} == {torch.float32}
        log = (tmp_path / precision / "log.jsonl").read_text().splitlines()
        losses.append([row["loss"] for row in map(json.loads, log) if "loss" in row])
        accelerator.free_memory()
        AcceleratorState._reset_state()
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


@pytest.mark.slow
def test_interrupted_and_continued_is_bit_identical(data, poisoned, tmp_path):
    def begin(name):
        config = configure(data, tmp_path / name, max_steps=6)
        config.data.train = [str(poisoned[0])]
        return trainer_for(config)

    whole = begin("whole")
    whole.train()
    first = begin("cut")
    step = first._optimizer_step

    def interrupt_at_three(*args):
        line = step(*args)
        if first.step == 3:
            signal.raise_signal(signal.SIGINT)
        return line

    first._optimizer_step = interrupt_at_three
    assert not first.train()
    assert first.step == 3
    second = begin("cut")
    assert second.train()
    assert torch.equal(weights(second), weights(whole))
    assert second.skipped == whole.skipped != first.skipped
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "loss" in row] == [1, 2, 3, 4, 5, 6]


def without_numbers(trainer, steps):
    """The trainer, reading features that are not numbers at these steps."""
    features = trainer.setup.train.features

    def read(item, device):
        found = features(item, device)
        return replace(found, aux_hidden=found.aux_hidden * float("nan")) if trainer.step in steps else found

    trainer.setup.train.features = read
    return trainer


def test_a_gradient_that_is_not_finite_spoils_nothing(data, tmp_path):
    trainer = without_numbers(trainer_for(configure(data, tmp_path, max_steps=3, eval_steps=9, save_steps=9)), {1})
    after, step = [weights(trainer)], trainer._optimizer_step
    trainer._optimizer_step = lambda *args: (step(*args), after.append(weights(trainer)))[0]
    assert trainer.train()
    changed = [not torch.equal(a, b) for a, b in pairwise(after)]
    assert changed == [True, False, True]
    assert after[-1].isfinite().all()
    log = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] is None for row in log if "loss" in row] == [False, True, False]
    assert trainer.skipped_updates == 0


@pytest.mark.slow
def test_a_run_of_such_gradients_is_stopped(data, tmp_path):
    trainer = without_numbers(trainer_for(configure(data, tmp_path, max_steps=30, eval_steps=99, save_steps=99)), range(2, 30))
    with pytest.raises(UserError, match="10 steps in a row, up to step 12"):
        trainer.train()
    assert weights(trainer).isfinite().all()


def test_what_accelerate_may_not_ask_for(monkeypatch):
    for name in ("fp16", "fp8"):
        with pytest.raises(UserError, match="Use bf16"):
            check_precision(name)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="--mixed_precision fp16"):
        scenario_of(TrainCommand(), AutoConfig.from_pretrained(DEMO_TARGET))
    deepspeed = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(UserError, match="DEEPSPEED, which is not supported"):
        sharding.prepare(deepspeed, None, False)


def test_another_run_in_the_same_folder_is_refused(data, tmp_path):
    trainer_for(configure(data, tmp_path, max_steps=2)).train()
    with pytest.raises(UserError, match="another --out"):
        trainer_for(configure(data, tmp_path, max_steps=2, seed=1)).train()


def image_row(name, answer="A shape."):
    question = [{"type": "image", "image": name}, {"type": "text", "text": "What is it?"}]
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


@pytest.fixture
def poisoned(data):
    """Rows that cannot be used, each in its own way, before and between good ones."""
    folder = data / "images"
    (folder / "broken.png").write_bytes(b"not a picture")
    good = next(file for file in sorted(folder.iterdir()) if file.name != "broken.png")
    (folder / "cut.png").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    bad = {
        "bad JSON": "{",
        "roles out of order": '{"messages": [{"role": "assistant", "content": "x"}]}',
        "no messages": '{"messages": []}',
        "image missing": image_row("images/nowhere.png"),
        "image broken": image_row("images/broken.png"),
        "path leaves folder": image_row("../secret.png"),
        "nothing to learn": '{"messages": [{"role": "user", "content": "Say nothing."}]}',
        "too long": '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "x"}]}'
        % ("long " * 3000),
    }
    lines = (data / "train.jsonl").read_text().splitlines()
    file = data / "poisoned.jsonl"
    file.write_text("\n".join([*list(bad.values())[:4], *lines, *list(bad.values())[4:], image_row("images/cut.png")]) + "\n")
    return file, list(bad)


@pytest.mark.slow
def test_poisoned_data_trains_to_the_end_and_counts_every_reason(data, poisoned, tmp_path):
    file, reasons = poisoned
    config = configure(data, tmp_path, max_steps=None, epochs=1, batch_size=3)
    config.data.train = [str(file)]
    trainer = trainer_for(config)
    assert trainer.train()
    expected = Counter(dict.fromkeys(reasons, 1))
    expected["image broken"] += 1
    assert trainer.skipped == expected
    assert json.loads((tmp_path / "run.json").read_text())["skipped"] == dict(expected)


def test_strict_stops_at_the_first_bad_row(data, poisoned, tmp_path):
    config = configure(data, tmp_path, batch_size=3)
    config.data.train, config.data.strict = [str(poisoned[0])], True
    with pytest.raises(BadRow, match=r"poisoned\.jsonl:\d+: "):
        trainer_for(config).train()


def test_llm_only_trains_on_text(data, tmp_path):
    trainer = trainer_for(configure(data, tmp_path, llm_only=True, max_steps=1))
    assert trainer.setup.target.model.model.visual is None
    assert trainer.skipped == {"has media": 6}
    assert trainer.train()


def batches_of(order, ranks, start=0, stop=None):
    stop = order.steps(1) if stop is None else stop
    return [list(MicroBatches(order, rank=rank, ranks=ranks, start=start, stop=stop)) for rank in range(ranks)]


def test_order_covers_every_row_and_repeats():
    options = {"batch_size": 2, "gradient_accumulation_steps": 2, "ranks": 2, "seed": 5}
    ranks = batches_of(Order(24, **options), 2, stop=6)
    epoch = [i for rank in ranks for batch in rank[:6] for i in batch]
    assert sorted(epoch) == list(range(24))
    assert batches_of(Order(24, **options), 2, start=4, stop=6)[0] == ranks[0][8:]
    assert ranks[0][:6] != ranks[0][6:], "every epoch has its own order"


def test_token_budget_holds_and_little_is_padded():
    generator = torch.Generator().manual_seed(0)
    lengths = [*torch.randint(10, 400, (500,), generator=generator).tolist(), 900]
    options = {"batch_size": 8, "gradient_accumulation_steps": 2, "ranks": 2, "seed": 1, "max_tokens": 800, "lengths": lengths}
    order = Order(len(lengths), **options)
    batches = [batch for rank in batches_of(order, 2) for batch in rank]
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    assert len(rows) > 0.95 * len(lengths)
    padded = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert all(p <= 800 or len(b) == 1 for p, b in zip(padded, batches, strict=True)), "one row may be longer, alone"
    assert sum(padded) < 1.1 * sum(lengths[row] for row in rows)
    assert order.steps(2.0) == len(order.epoch(0)) + len(order.epoch(1))
    assert order.locate(len(order.epoch(0)) + 3) == (1, 3)
    again = Order(len(lengths), **options)
    assert batches_of(again, 2, start=5, stop=9) == [rank[10:18] for rank in batches_of(order, 2)]


def test_trains_with_a_token_budget(data, tmp_path):
    trainer = trainer_for(configure(data, tmp_path, max_tokens=400, max_steps=3))
    sizes = [len(batch) for step in trainer.order.epoch(0) for batch in step]
    assert len(set(sizes)) > 1
    assert trainer.train()


def test_teacher_restricts_to_the_draft_vocabulary(target, draft):
    hidden = torch.randn(30, target.config.hidden_size)
    teacher = teach(target.logits(hidden), draft.target_ids, draft.t2d)
    logits = target.logits(hidden)
    expected = logits[:, draft.t2d].softmax(-1)
    torch.testing.assert_close(teacher.probabilities, expected)
    for row in range(30):
        best = int(logits[row].argmax())
        assert bool(teacher.covered[row]) == bool(draft.t2d[best])
        if draft.t2d[best]:
            assert int(draft.target_ids[teacher.top[row]]) == best


def test_simulated_acceptance_length_is_a_sum_of_products():
    acceptance = StepAcceptance.zeros(3)
    acceptance.add(torch.tensor([8, 5, 1]), torch.tensor([10, 10, 10]))
    assert acceptance.simulated_acceptance_length == pytest.approx(1 + 0.8 + 0.8 * 0.5 + 0.8 * 0.5 * 0.1)

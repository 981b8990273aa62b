"""Held-out data: what its loss is divided by, and that the best draft by it stays; across an interruption too."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from runs import configure, trainer_for

from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.training import checkpoint
from vlm_eagle.training import trainer as module
from vlm_eagle.training.metrics import StepAcceptance
from vlm_eagle.training.ttt import ttt_loss


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_loss_is_a_sum_of_steps_per_first_row(data, tmp_path, batch_size):
    """Every step's sum is divided by the rows of the first, so that batches can be added up."""
    trainer = trainer_for(configure(data, tmp_path, batch_size=batch_size))
    loss, acceptance = trainer.evaluate()
    source, target, settings = trainer.setup.eval, trainer.setup.target, trainer.config.draft
    features = target.features(source.collate([source.dataset[i] for i in range(len(source.dataset))]))
    rows = acceptance.rows[:1].expand(settings.ttt_length)
    how = {"ttt_length": settings.ttt_length, "decay": settings.decay, "rows": rows}
    with torch.no_grad():
        expected = ttt_loss(trainer.setup.draft, features, target.embed_tokens, target.logits, **how)
    assert loss == pytest.approx(float(expected.loss), rel=1e-4)
    assert acceptance.rows.tolist() == expected.rows.tolist()
    assert acceptance.correct.tolist() == expected.correct.tolist()


def scripted(trainer, lengths, seen):
    """The trainer, whose evaluations find these acceptance lengths; `seen` gets the weights it had then."""
    lengths = iter(lengths)

    def evaluate():
        seen.append(trainer.setup.draft.fc.weight.detach().clone())
        return 1.0, StepAcceptance(torch.tensor([round(100 * (next(lengths) - 1)), 0, 0]), torch.tensor([100] * 3))

    trainer.evaluate = evaluate
    return trainer


@pytest.mark.slow
def test_the_best_draft_stays_and_is_remembered(data, tmp_path):
    """1.7 at step 2 is the best, and 1.6 after an interruption at step 4 is no better."""
    config, seen = configure(data, tmp_path, max_steps=7, eval_steps=2, save_steps=5), []
    first = scripted(trainer_for(config), [1.7, 1.5], seen)
    step = first._optimizer_step

    def interrupt_at_four(*args):
        line = step(*args)
        if first.step == 4:
            signal.raise_signal(signal.SIGINT)
        return line

    first._optimizer_step = interrupt_at_four
    assert not first.train()
    second = scripted(trainer_for(config), [1.6, 1.7], seen)
    assert second.train()
    assert torch.equal(Eagle3Draft.from_pretrained(tmp_path / "draft").fc.weight, seen[0])
    assert not any(torch.equal(seen[0], weights) for weights in seen[1:])
    assert json.loads((tmp_path / "run.json").read_text())["best_simulated_acceptance_length"] == pytest.approx(1.7)
    assert [row["step"] for row in map(json.loads, (tmp_path / "log.jsonl").open()) if "loss" not in row] == [2, 4, 6, 7]
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == ["step-5.pt", "step-7.pt"]


def test_a_step_counts_tokens_and_no_padding(data, tmp_path):
    trainer, seen = trainer_for(configure(data, tmp_path, max_steps=1)), []
    step = trainer._optimizer_step
    trainer._optimizer_step = lambda source, window: seen.append((window, step(source, window))) or seen[-1][1]
    assert trainer.train()
    ((window, line),) = seen
    lengths = [int(mask.nonzero().max()) + 1 for batch in window for mask in batch.attention_mask]
    assert line["tokens"] == sum(lengths) < sum(batch.input_ids.numel() for batch in window)
    assert line["supervised"] == sum(int(batch.loss_mask.sum()) for batch in window) < line["tokens"]


@pytest.mark.slow
def test_without_held_out_data_the_last_draft_is_kept(data, tmp_path):
    config = configure(data, tmp_path, max_steps=3)
    trainer = trainer_for(replace(config, data=replace(config.data, eval=[])))
    assert trainer.train()
    assert torch.equal(Eagle3Draft.from_pretrained(tmp_path / "draft").fc.weight, trainer.setup.draft.fc.weight)


@pytest.mark.slow
def test_the_coin_is_thrown_anew_in_every_epoch(data, tmp_path, monkeypatch):
    """By seed and epoch in training; in evaluations always the same, so that they can be compared."""
    turns, throw = [], module.visual_samples_of
    monkeypatch.setattr(module, "visual_samples_of", lambda how, ids, turn: turns.append(turn) or throw(how, ids, turn))
    config = configure(data, tmp_path, max_steps=5, eval_steps=5, seed=3)
    assert trainer_for(replace(config, draft=replace(config.draft, image_inputs="mixed"))).train()
    assert turns == ["3 0"] * 3 + ["3 1"] * 2 + ["3 0"], "12 rows in batches of 4"


@pytest.mark.slow
def test_a_run_is_known_by_its_data_and_processes(data, tmp_path):
    """Else a checkpoint would go on with other rows than those it left out."""
    config = configure(data, tmp_path, max_steps=2)
    trainer = trainer_for(config)
    trainer.train()
    own = trainer._identity()
    trainer.accelerator = type("Two", (), {"num_processes": 2})
    assert checkpoint.differences(own, trainer._identity()) == ["another number of processes"]
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "turned.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    turned = replace(config, data=replace(config.data, train=[str(data / "turned.jsonl")]))
    with pytest.raises(UserError, match=r"\(other training data\)"):
        trainer_for(turned).train()
    anew = trainer_for(replace(turned, resume=False))
    assert anew.train()
    assert [row["step"] for row in map(json.loads, (tmp_path / "log.jsonl").open()) if "loss" in row] == [1, 2]
    assert not torch.equal(anew.setup.draft.fc.weight, trainer.setup.draft.fc.weight)

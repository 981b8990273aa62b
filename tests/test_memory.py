"""Memory stands still over any number of prompts, batches and steps, without the help of Python's cycle collector."""

import gc

import pytest
import torch
from conftest import make_draft
from evaluations import benchmarks
from runs import configure, trainer_for

from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.in_process import InProcess
from data_recipes.regenerate.run import regenerate
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.evaluation.scores.models import MeasuredPair
from vlm_eagle.evaluation.scores.our_column import OurColumn
from vlm_eagle.evaluation.scores.scoring import TurnRequest
from vlm_eagle.training.trainer import Trainer

TIMES = 100  # a leak of one tensor a time would show at the fourth


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def tensor_bytes():
    """Of all dense tensors that anything in Python holds, each storage once."""
    storages = {}
    for item in gc.get_objects():
        if issubclass(type(item), torch.Tensor) and item.device.type == "cpu" and item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def watch(monkeypatch, owner, name):
    """Bytes after every call of a method."""
    seen, call = [], getattr(owner, name)

    def watched(*args, **options):
        result = call(*args, **options)
        seen.append(tensor_bytes())
        return result

    monkeypatch.setattr(owner, name, watched)
    return seen


def test_what_is_dropped_in_a_circle_is_seen():
    """The measure itself: two objects that hold each other, and a tensor."""

    class Holder:
        pass

    before, holder = tensor_bytes(), Holder()
    holder.itself, holder.tensor = holder, torch.ones(1000)
    del holder
    assert tensor_bytes() - before == 4000


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"shape": TreeShape(8, 3, 3)}, {"sampling": Sampling(1.0), "sampled_drafts": True}], ids=str
)
@pytest.mark.parametrize("drafted", [False, True])
def test_generate(target, mixed_batch, options, drafted):
    draft, seen = make_draft(target) if drafted else None, []
    for _ in range(TIMES if drafted and not options else 5):
        generate(target, mixed_batch, draft, Settings(max_new_tokens=3, seed=0, **options))
        seen.append(tensor_bytes())
    assert set(seen[2:]) == {seen[2]}


@pytest.mark.slow
def test_regenerate(data, tmp_path, monkeypatch):
    """Rows that cannot be asked are among them. All are of one kind, so that batches are of one size."""
    write_jsonl(tmp_path / "rows.jsonl", [mix.sample("vqa", i) for i in range(2 * TIMES)])
    for image in list((tmp_path / "images").iterdir())[::7]:
        image.write_bytes(b"no image")
    seen = watch(monkeypatch, InProcess, "_answer")
    options = {"target": str(data / "target"), "max_new_tokens": 3, "truncated_answers": "keep", "batch_size": 2}
    regenerate(RegenerateConfig(data=[str(tmp_path / "rows.jsonl")], out=str(tmp_path / "out"), **options))
    assert len(seen) == TIMES
    assert_still(seen)


@pytest.mark.slow
def test_acc_length(target):
    column = OurColumn(MeasuredPair(target, make_draft(target), "d", ("t", "d"), "t"), TreeShape(4), Sampling())
    prompts, seen = benchmarks()[0].prompts, []
    for i in range(TIMES):
        column.answer([TurnRequest(prompts[i % len(prompts)].conversation, 0, 3)])
        seen.append(tensor_bytes())
    assert_still(seen)


@pytest.mark.slow
def test_training(data, tmp_path, monkeypatch):
    seen = watch(monkeypatch, Trainer, "_after_step")
    trainer_for(configure(data, tmp_path, batch_size=2, max_steps=TIMES, epochs=TIMES, eval_steps=20, save_steps=20)).train()
    assert len(seen) == TIMES
    assert_still(seen)


def assert_still(seen):
    """Sizes differ a little from one batch to the next; none of it adds up."""
    first, last = seen[2 : TIMES // 2], seen[TIMES // 2 :]
    assert max(last) <= 1.05 * max(first)
    assert min(last) <= 1.01 * min(first)

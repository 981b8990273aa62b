"""The dry run's numbers for the draft, against what a real step of the engine allocates and computes."""

import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.dev.peak_memory import peak_bytes
from scripts.dev.random_pair import build_pair
from vlm_eagle.records import Batch
from vlm_eagle.training import attention, chunked_loss
from vlm_eagle.training.activations import DraftActivations
from vlm_eagle.training.arithmetic import estimate_arithmetic
from vlm_eagle.training.sizes import draft_sizes, target_sizes
from vlm_eagle.training.ttt import ttt_loss
from vlm_eagle.training.workload import Workload, total

CPU = torch.device("cpu")
SMALL, LARGE = (2**18, 64), (2**21, 1024)  # chunks: logits of both models, queries


def workload(length, fraction, **settings):
    return Workload(
        batch_size=1, gradient_accumulation_steps=1, max_length=length, ttt_length=7, supervised_fraction=fraction,
        device="cpu",
        **{"autocast": False, **settings},
    )  # fmt: skip


def build(autocast, width=1024):
    target, draft = build_pair("tiny", width, torch.bfloat16 if autocast else torch.float32, CPU)
    draft = draft.float()
    for parameter in draft.parameters():
        parameter.grad = torch.zeros_like(parameter)  # held, as after a step's first micro-batch
    return target, draft, autocast


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "autocast"])
def pair(request):
    return build(request.param)


def step(target, draft, work):
    """Forward and backward of one micro-batch, whose answer lies at its end."""
    ids = torch.randint(2048, (1, work.max_length), generator=torch.Generator().manual_seed(0))
    supervised = torch.zeros_like(ids, dtype=torch.bool)
    supervised[:, -1 - work.anchors : -1] = True
    features = target.features(Batch(ids, torch.ones_like(ids), supervised))
    settings = {
        "ttt_length": work.ttt_length,
        "decay": 0.9,
        "loss": work.loss,
        "gradient_checkpointing": work.gradient_checkpointing,
    }

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=work.autocast), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # RMSNorm of 16 bits with a float32 weight has no fused kernel
            ttt_loss(draft, features, target.embed_tokens, target.logits, **settings).loss.backward()

    return run


def worst(activations):
    """Bytes at the worst moment of both passes."""
    return max(total(activations.loss()), total(activations.gradient()))


@pytest.mark.slow
@pytest.mark.parametrize("gradient_checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("fraction", [0.12, 0.6])
@pytest.mark.parametrize("chunks", [SMALL, LARGE], ids=["small", "large"])
def test_memory_of_the_draft(pair, monkeypatch, gradient_checkpointing, fraction, chunks):
    target, draft, autocast = pair
    monkeypatch.setitem(chunked_loss.ELEMENTS, "cpu", chunks[0])
    monkeypatch.setitem(attention.CHUNK, "cpu", chunks[1])
    work = workload(1024, fraction, gradient_checkpointing=gradient_checkpointing, autocast=autocast)
    measured = peak_bytes(step(target, draft, work), CPU)
    assert worst(DraftActivations(draft_sizes(draft.config), work)) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("gradient_checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("length", [64, 256])
def test_memory_with_a_large_head(pair, monkeypatch, gradient_checkpointing, length):
    """Where the head's own gradient decides."""
    *_, autocast = pair
    target, draft, _ = build(autocast, width=4000)
    monkeypatch.setitem(chunked_loss.ELEMENTS, "cpu", 2**17)
    work = workload(length, 0.12, gradient_checkpointing=gradient_checkpointing, autocast=autocast)
    measured = peak_bytes(step(target, draft, work), CPU)
    assert worst(DraftActivations(draft_sizes(draft.config), work)) == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["lk_alpha", "lk_lambda"])
def test_memory_of_lk_losses(pair, monkeypatch, loss):
    target, draft, autocast = pair
    monkeypatch.setitem(chunked_loss.ELEMENTS, "cpu", 2**20)
    work = workload(512, 0.6, gradient_checkpointing=True, autocast=autocast, loss=loss)
    measured = peak_bytes(step(target, draft, work), CPU)
    assert worst(DraftActivations(draft_sizes(draft.config), work)) == pytest.approx(measured, rel=0.15)


def test_recomputing_keeps_less_and_only_there():
    sizes = draft_sizes(build(False)[1].config)
    kept, again = (DraftActivations(sizes, workload(1024, 0.6, gradient_checkpointing=r)) for r in (False, True))
    assert worst(again) < worst(kept) / 1.5
    assert dict(again.loss())["logits of a chunk"] == dict(kept.loss())["logits of a chunk"]
    assert total(again.gradient()) < total(kept.gradient())


@pytest.mark.slow
@pytest.mark.parametrize("gradient_checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("fraction", [0.12, 1.0])
def test_arithmetic_of_the_draft(gradient_checkpointing, fraction):
    target, draft, _ = build(False)
    work = workload(
        512, (round(fraction * 512) - 1) / 512, gradient_checkpointing=gradient_checkpointing, optimizer="adamw", offline=True
    )
    run = step(target, draft, work)
    with FlopCounterMode(display=False) as counter:
        run()
    expected = estimate_arithmetic(target_sizes(target.model.config), draft_sizes(draft.config), work)
    assert expected.step == pytest.approx(counter.get_total_flops(), rel=0.05)

"""The dry run's numbers: exact where they can be, else measured against what really happens."""

import weakref
from dataclasses import replace

import pytest
import torch
from conftest import make_draft
from model_configs import MODELS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM

from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.target.load import load_target
from vlm_eagle.training.advice import Plan, advise, most_supervised
from vlm_eagle.training.arithmetic import decoder_flops, estimate_arithmetic
from vlm_eagle.training.estimate import Workload, estimate_memory, optimizer_bytes, store_bytes, weight_bytes
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.sizes import draft_sizes, target_sizes

WORK = Workload(batch_size=1, accumulation=1, max_length=256, ttt_length=7, supervised_fraction=0.15, autocast=False)


def config_of(name):
    row, published = MODELS[name]
    return AutoConfig.for_model(**row), published


def plan_for(name, draft_vocab_size=32_000, **work):
    config, _ = config_of(name)
    text = config.get_text_config()
    draft = draft_sizes(Eagle3Config.for_target(text, (4, text.num_hidden_layers // 2, 25), draft_vocab_size))
    return Plan(target=target_sizes(config), draft=draft, work=replace(WORK, autocast=True, **work))


@pytest.fixture(scope="module")
def demo():
    return load_target("demo", dtype="float32")


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_real_targets_have_their_published_sizes(name):
    config, published = config_of(name)
    assert target_sizes(config).parameters == published


def test_parameters_are_those_of_the_model(demo, text_target):
    for target in (demo, text_target):
        sizes = target_sizes(target.model.config, "float32")
        assert sizes.parameters == count(target.model)
        assert sizes.embedding == target.embed_tokens.weight.numel()
        assert (sizes.head, sizes.active) == (0, sizes.decoder)
        assert sizes.decoder == count(target.decoder) - sizes.embedding
        assert weight_bytes(sizes, WORK) == sum(p.numel() * p.element_size() for p in target.model.parameters())
        assert weight_bytes(sizes, replace(WORK, offline=True)) == target.embed_tokens.weight.nbytes
    vision = target_sizes(demo.model.config, "bfloat16")
    assert vision.vision.parameters == count(demo.model.model.visual)
    assert weight_bytes(vision, WORK) == 2 * count(demo.model)
    without = load_target("demo", dtype="bfloat16", llm_only=True)
    assert weight_bytes(vision, replace(WORK, llm_only=True)) == sum(p.nbytes for p in without.model.parameters())


def test_active_parameters_of_experts():
    config = Qwen3MoeConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=3, num_experts=8,
        num_experts_per_tok=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    sizes, model = target_sizes(config), Qwen3MoeForCausalLM(config)
    experts = 3 * 8 * 3 * 32 * 16
    assert sizes.parameters == count(model)
    assert sizes.active == sizes.decoder - experts * 6 // 8
    norms = sum(p.numel() for p in model.model.parameters() if p.ndim == 1)
    assert sizes.active_matrices == sizes.active - norms


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_draft_and_optimizer_are_exact(target, optimizer):
    draft = make_draft(target)
    sizes = draft_sizes(draft.config)
    assert sizes.parameters == count(draft)
    assert sizes.parts["lm_head"] == draft.lm_head.weight.numel()
    assert sizes.parts["attention"] == count(draft.midlayer.self_attn)
    optimizers = build_optimizers(draft, optimizer=optimizer, lr=1e-3, weight_decay=0.0)
    sum(p.square().sum() for p in draft.parameters()).backward()
    for o in optimizers:
        o.step()
    state = [t for o in optimizers for values in o.state.values() for t in values.values()]
    assert optimizer_bytes(sizes, optimizer) == sum(t.nbytes for t in state if t.ndim)  # step counters are on the host
    held = dict(estimate_memory(target_sizes(target.model.config), sizes, replace(WORK, optimizer=optimizer)).held)
    assert held["draft's weights, float32"] == sum(p.nbytes for p in draft.parameters())
    assert held["gradients, float32"] == sum(p.grad.nbytes for p in draft.parameters())
    assert held["optimizer's state"] == optimizer_bytes(sizes, optimizer)


def text_forward(target, length):
    ids = torch.randint(0, 1000, (1, length))
    positions = torch.arange(length).expand(3, 1, -1)
    with torch.no_grad():
        target.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False)


@pytest.mark.parametrize("length", [128, 512])
def test_flops_of_the_target(demo, length):
    with FlopCounterMode(display=False) as counter:
        text_forward(demo, length)
    sizes = target_sizes(demo.model.config)
    assert decoder_flops(sizes, replace(WORK, max_length=length)) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_flops_of_the_draft(target, draft):
    """Everything supervised and one step: then every part of the draft runs on every row."""
    length, sizes = 256, target_sizes(target.model.config)
    attend = lambda q, k, v: (q @ k.repeat_interleave(2, 1).mT).softmax(-1) @ v.repeat_interleave(2, 1)
    aux, embedding = torch.randn(1, length, 3 * sizes.hidden), torch.randn(1, length, sizes.hidden)
    with FlopCounterMode(display=False) as counter:
        hidden = draft.step(draft.fuse(aux), embedding, torch.arange(length)[None], attend)
        draft.logits(hidden).sum().backward()
        target.logits(hidden.detach())
    work = replace(WORK, max_length=length, supervised_fraction=1.0, ttt_length=1, optimizer="adamw")
    expected = estimate_arithmetic(sizes, draft_sizes(draft.config), work)
    assert expected.step - expected.floor == pytest.approx(counter.get_total_flops(), rel=0.01)


class LiveBytes(TorchDispatchMode):
    """The largest number of bytes alive at one time, of all tensors made inside."""

    def __init__(self, known):
        super().__init__()
        self.now = self.peak = 0
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for storage in [t.untyped_storage() for t in tree_leaves(made) if isinstance(t, torch.Tensor)]:
            if storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage._cdata)
        return made

    def _free(self, key):
        self.now -= self.sizes.pop(key)


def test_activations_of_the_target(demo):
    length = 512
    with LiveBytes(demo.model.parameters()) as live:
        text_forward(demo, length)
    memory = estimate_memory(target_sizes(demo.model.config, "float32"), PLAN.draft, replace(WORK, max_length=length))
    activations = dict(memory.forward)["target's activations"]
    assert activations == pytest.approx(live.peak, rel=0.1)


def test_disk_of_captured_features(target, mixed_batch):
    features = target.features(mixed_batch)
    tokens, supervised = features.input_ids.numel(), int(features.supervised.sum())
    expected = (features.aux_hidden.numel() + features.last_hidden.numel()) * 2
    assert store_bytes(target_sizes(target.model.config), tokens, supervised / tokens) == expected


PLAN = plan_for("Qwen/Qwen3-VL-2B-Instruct", batch_size=4, max_length=4096, image_fraction=0.5)


def test_advice_helps_and_is_in_order():
    large = replace(
        PLAN,
        target=replace(PLAN.target, value_bytes=4),
        work=replace(PLAN.work, optimizer="adamw", processes=4, accumulation=2),
    )
    advices = advise(large)
    words = ["--accumulation 8", "bfloat16", "muon", "precision no", "length 2048", "16000", "capture_features", "FSDP"]
    assert all(word in advice.text for word, advice in zip(words, advices, strict=True))
    assert all(advice.alone.peak < large.peak for advice in advices)
    peaks = [large.peak, *(advice.so_far.peak for advice in advices)]
    assert peaks == sorted(peaks, reverse=True)


def test_only_advice_that_helps_is_given():
    small = replace(PLAN, work=replace(PLAN.work, batch_size=1, max_length=512, autocast=False))
    assert [a.text.split()[0] for a in advise(small)] == ["--draft.vocab-size", "scripts/capture_features.py"]
    offline = replace(small, work=replace(small.work, offline=True))
    assert [a.text.split()[0] for a in advise(offline)] == ["--draft.vocab-size"]


def test_most_supervised_is_the_last_that_fits():
    most = most_supervised(PLAN, 24 * 2**30)
    assert 0 < most < 1
    peaks = [replace(PLAN, work=replace(PLAN.work, supervised_fraction=most + more)).peak for more in (0, 0.01)]
    assert peaks[0] <= 24 * 2**30 < peaks[1]
    assert (most_supervised(PLAN, 2**30), most_supervised(PLAN, 2**40)) == (0, 1)


def test_offline_loads_and_runs_no_layers():
    offline = replace(PLAN.work, offline=True)
    memory = estimate_memory(PLAN.target, PLAN.draft, offline)
    assert memory.forward == ()
    assert estimate_arithmetic(PLAN.target, PLAN.draft, offline).floor == 0


def test_accumulation_changes_no_memory_but_arithmetic():
    once, often = PLAN, replace(PLAN, work=replace(PLAN.work, accumulation=8))
    assert once.peak == often.peak
    flops = [estimate_arithmetic(p.target, p.draft, p.work) for p in (once, often)]
    assert flops[1].step - flops[1].optimizer == 8 * (flops[0].step - flops[0].optimizer)
    assert flops[0].floor < flops[0].step < 2 * flops[0].floor

"""The dry run's numbers: exact where they can be, else against what a real step allocates and computes."""

from dataclasses import replace

import pytest
import torch
from model_configs import MODELS
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

from vlm_eagle.config import DataConfig, DraftConfig, OptimConfig, TrainCommand
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.records import Batch
from vlm_eagle.target.load import load_target
from vlm_eagle.target.target import Target
from vlm_eagle.training.chunks import GPU, using_chunk_sizes
from vlm_eagle.training.dry_run import _with, advise, most_supervised, scenario_of
from vlm_eagle.training.feature_format import split
from vlm_eagle.training.feature_store import FeatureWriter
from vlm_eagle.training.footprint import FootprintMeter
from vlm_eagle.training.meta_models import meta_target
from vlm_eagle.training.optim import build_optimizers
from vlm_eagle.training.ttt import ttt_loss

SIZES = {
    "vocab_size": 4000, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": False,
}  # fmt: skip
CONFIG = Qwen3Config(**SIZES)
LENGTH = 256


def command(**settings):
    draft = DraftConfig(vocab_size=1000, **settings.pop("draft", {}))
    data = DataConfig(max_length=settings.pop("max_length", LENGTH), **settings.pop("data", {}))
    given = {"batch_size": 1, "target_dtype": "float32", "memory_gib": 24, "supervised_fraction": 0.3} | settings
    return TrainCommand(target="x", draft=draft, data=data, **given)


def measured(config=CONFIG, autocast=False, processes=1, device="cuda", **settings):
    scenario = replace(scenario_of(command(**settings), config), autocast=autocast, processes=processes, device=device)
    return FootprintMeter(config, scenario.draft.aux_layer_ids).measure(scenario), scenario


def allocated(work):
    """The largest number of bytes that the allocator had handed out at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def real_pair(scenario, config=CONFIG):
    target = Target(AutoModelForCausalLM.from_config(config), layer_ids=scenario.draft.aux_layer_ids).freeze()
    draft = Eagle3Draft(scenario.draft, DraftVocab.from_ids(range(scenario.draft.draft_vocab_size), config.vocab_size))
    for parameter in draft.parameters():
        parameter.grad = torch.zeros_like(parameter)  # held, as after a step's first micro-batch
    return target, draft


def batch_of(scenario, target):
    size, length = scenario.batch_size, scenario.command.data.max_length
    ids = torch.randint(0, target.config.vocab_size, (size, length))
    loss_mask = torch.zeros_like(ids, dtype=torch.bool)
    loss_mask[:, -1 - -int(-scenario.command.supervised_fraction * length // 1) : -1] = True
    return Batch(ids, torch.ones_like(ids), loss_mask)


def step_of(scenario, target, draft, features):
    options = scenario.command.draft
    names = ("ttt_length", "decay", "loss", "gradient_checkpointing")

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=scenario.autocast), using_chunk_sizes(GPU):
            settings = {name: getattr(options, name) for name in names}
            ttt_loss(draft, features, target.embed_tokens, target.logits, **settings).loss.backward()

    return step


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"draft": {"gradient_checkpointing": True}},
        {"autocast": True},
        {"autocast": True, "draft": {"gradient_checkpointing": True}, "supervised_fraction": 0.8},
        {"draft": {"loss": "lk_lambda"}, "batch_size": 2},
    ],
    ids=["kept", "recomputed", "autocast", "autocast recomputed", "lk"],
)
def test_a_step_allocates_what_was_predicted(settings):
    footprint, scenario = measured(**settings)
    target, draft = real_pair(scenario)
    features = target.features(batch_of(scenario, target))
    parts = footprint.phases["loss and gradient of the draft"]
    features_size = features.aux_hidden.nbytes + features.last_hidden.nbytes
    assert parts["aux hidden states"] + parts["last hidden states where supervised"] == features_size
    step = step_of(scenario, target, draft, features)
    assert sum(parts.values()) - features_size == pytest.approx(allocated(step), rel=0.1)
    forward = allocated(lambda: target.features(batch_of(scenario, target)))
    assert sum(footprint.phases["forward of the target"].values()) == pytest.approx(forward, rel=0.15)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_step_computes_what_was_predicted(gradient_checkpointing):
    footprint, scenario = measured(
        draft={"gradient_checkpointing": gradient_checkpointing}, gradient_accumulation_steps=3, optim=OptimConfig()
    )
    target, draft = real_pair(scenario)
    features = target.features(batch_of(scenario, target))
    with FlopCounterMode(display=False) as counter:
        step_of(scenario, target, draft, features)()
    flops = footprint.flops
    predicted = flops["draft, forward and backward"] + flops["target, lm_head where supervised"]
    assert predicted == pytest.approx(3 * counter.get_total_flops(), rel=0.01)
    matrices = sum(p.numel() for p in target.decoder.layers.parameters() if p.ndim == 2)
    attention = 4 * LENGTH * 8 * 32 * 8  # queries against keys, weights against values, in 8 layers
    assert flops["target, decoder layers"] == 3 * LENGTH * (2 * matrices + attention)
    assert flops["optimizer"] > 0


@pytest.mark.parametrize("name", MODELS)
def test_real_targets_have_their_published_sizes(name):
    row, published = MODELS[name]
    assert sum(p.numel() for p in meta_target(AutoConfig.for_model(**row)).parameters()) == published


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_draft_and_optimizer_are_exact(optimizer):
    footprint, scenario = measured(optim=OptimConfig(optimizer=optimizer), device="cpu")
    target, draft = real_pair(scenario)
    optimizers = build_optimizers(draft, optimizer=optimizer, lr=1e-3, weight_decay=0.0)
    for one in optimizers:
        one.step()
    state = sum(t.nbytes for one in optimizers for entry in one.state.values() for t in entry.values() if t.ndim)
    weights = sum(p.nbytes for p in draft.parameters())
    expected = {
        "weights of the target": sum(p.nbytes for p in target.model.parameters()), "weights of the draft, float32": weights,
        "gradients, float32": weights, "optimizer state": state,
    }  # fmt: skip
    assert expected.items() <= footprint.held.items()
    update = sum(footprint.phases["update by the optimizer"].values())
    assert update == pytest.approx(allocated(lambda: [one.step() for one in optimizers]), rel=0.1, abs=1000)


def test_a_vision_target(target, mixed_batch):
    """Pixels and the tower are counted, unless it is not loaded; features as they are."""
    config = target.model.config
    online, scenario = measured(config, image_fraction=0.5, draft={"image_inputs": "mixed"})
    without, _ = measured(config, llm_only=True)
    vision = sum(p.nbytes for p in target.model.model.visual.parameters())
    assert online.held["weights of the target"] - without.held["weights of the target"] == vision
    forward = online.phases["forward of the target"]
    patches = mixed_batch.vision_inputs["pixel_values"]
    merged = config.vision_config.spatial_merge_size**2
    assert forward["pixels"] == LENGTH // 2 * merged * patches.shape[1] * patches.element_size()
    assert "pixels" not in without.phases["forward of the target"]
    assert online.phases["loss and gradient of the draft"]["visual embeddings"] == LENGTH // 2 * 4 * target.config.hidden_size
    assert online.flops["target, vision tower"] > 0 == without.flops["target, vision tower"]
    assert scenario.draft.aux_layer_ids == target.layer_ids


def test_stored_features_need_no_layers():
    online, _ = measured()
    offline, scenario = measured(data={"features": "f"})
    target, _ = real_pair(scenario)
    tables = (target.embed_tokens.weight, target.lm_head_weight)
    assert offline.held["weights of the target"] == sum(table.nbytes for table in tables)
    assert "forward of the target" not in offline.phases
    assert offline.flops["target, decoder layers"] == 0 < online.flops["target, decoder layers"]
    capturing, _ = measured(data={"features": "f", "capture_during_training": True})
    assert (capturing.held, capturing.phases) == (online.held, online.phases)


def test_a_mixture_of_experts_is_measured():
    config = Qwen3MoeConfig(**SIZES, moe_intermediate_size=64, num_experts=8, num_experts_per_tok=2)
    half, full = (measured(config, max_length=64, target_dtype=dtype)[0] for dtype in ("bfloat16", "float32"))
    weights = sum(p.nbytes for p in meta_target(config, torch.float32).parameters())
    assert (2 * half.held["weights of the target"], full.held["weights of the target"]) == (weights, weights)
    assert half.flops["target, decoder layers"] == full.flops["target, decoder layers"] > 0
    assert full.phases["forward of the target"] == {k: 2 * v for k, v in half.phases["forward of the target"].items()}


def test_other_micro_batches_wait_on_a_cpu_only():
    alone, _ = measured(device="cuda", data={"features": "f"})
    for device, waiting in (("cuda", 0), ("cpu", 3)):
        footprint, _ = measured(device=device, gradient_accumulation_steps=4, data={"features": "f"})
        parts = footprint.phases["loss and gradient of the draft"]
        features = parts["aux hidden states"] + parts["last hidden states where supervised"]
        assert sum(footprint.held.values()) - sum(alone.held.values()) == waiting * features


def test_several_devices_share():
    alone, copies, shared, target = (
        measured(**how)[0]
        for how in ({}, {"processes": 4}, {"processes": 4, "shard": True}, {"processes": 4, "shard_target": True})
    )
    for name in ("weights of the draft, float32", "gradients, float32", "optimizer state"):
        assert shared.held[name] == alone.held[name] // 4 < copies.held[name] == alone.held[name]
    assert {*copies.held} - {*alone.held} == {"gradients on their way to other devices"}
    gathered = shared.phases["loss and gradient of the draft"]["weights and gradients of the draft, gathered"]
    assert gathered == 2 * alone.held["weights of the draft, float32"], "a step needs them whole"
    layers = sum(p.nbytes for p in meta_target(CONFIG, torch.float32).model.layers.parameters())
    assert alone.held["weights of the target"] - target.held["weights of the target"] == layers - layers // 4
    assert target.phases["forward of the target"]["whole layers of the target, this one and the next"] == 2 * layers // 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8"])
def test_disk_of_captured_features(tmp_path, dtype):
    footprint, scenario = measured(data={"features_dtype": dtype})
    target, _ = real_pair(scenario)
    writer = FeatureWriter(tmp_path, 0, torch.float8_e4m3fn if dtype == "float8" else getattr(torch, dtype), visual=False)
    writer.add(0, split(replace(target.features(batch_of(scenario, target)), ids=("a",)))[0])
    writer.flush()
    shard = next((tmp_path / "shards").glob("*.safetensors"))
    assert footprint.stored * LENGTH == pytest.approx(shard.stat().st_size, rel=0.01)


@pytest.mark.slow
def test_advice_helps_and_is_in_order():
    settings = {"batch_size": 2, "gradient_accumulation_steps": 2, "max_length": 2048, "optim": OptimConfig(optimizer="adamw")}
    config = Qwen3Config(**SIZES | {"vocab_size": 150_000, "hidden_size": 512, "intermediate_size": 1536, "head_dim": 64})
    given = command(**settings)
    given.draft.vocab_size = 32_000
    scenario = replace(scenario_of(given, config), processes=4)
    meter = FootprintMeter(config, scenario.draft.aux_layer_ids)
    peak = meter.measure(scenario).peak
    advice = advise(meter, scenario, peak)
    words = ["--gradient-accumulation-steps 4", "gradient-checkpointing", "bfloat16", "muon", "length 1024", "16000", "capture"]
    texts = [text for text, _ in advice]
    found = [next((i for i, text in enumerate(texts) if word in text), None) for word in words]
    assert None not in found[:3]
    assert [i for i in found if i is not None] == sorted(i for i in found if i is not None)
    peaks = [peak, *(then for _, then in advice)]
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.slow
def test_most_supervised_is_the_last_that_fits():
    scenario = scenario_of(command(), CONFIG)
    meter = FootprintMeter(CONFIG, scenario.draft.aux_layer_ids)
    at = lambda share: meter.measure(_with(scenario, supervised_fraction=share)).peak
    budget = at(0.5)
    most = most_supervised(meter, scenario, budget, at(0.3))
    assert 0.48 <= most <= 0.52
    assert at(most) <= budget < at(most + 0.02)
    assert (most_supervised(meter, scenario, 2**20, at(0.3)), most_supervised(meter, scenario, 2**40, at(0.3))) == (0, 1)


def test_a_target_without_its_tower(data):
    without = load_target("demo", dtype="bfloat16", llm_only=True)
    footprint, _ = measured(without.model.config, llm_only=True, target_dtype="bfloat16")
    assert footprint.held["weights of the target"] == sum(p.nbytes for p in without.model.parameters())

"""What the doctor reads off config.json and the tensors: every finding, each for the fault that it names and no other."""

import re
from pathlib import Path

import pytest
import torch
from plants import K, Q, both, config, forget, planted, rename, shift_ids
from variants import make_variant

from vlm_eagle import doctor
from vlm_eagle.doctor.diagnose import examine
from vlm_eagle.doctor.raw_draft import read_raw
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.target.load import load_target

IDS = "eagle_aux_hidden_state_layer_ids"
BIAS = "midlayer.self_attn.q_proj.bias"


@pytest.fixture(scope="module")
def demo():
    return load_target("demo", dtype="float32", layer_ids=(3, 4, 5))


@pytest.fixture(scope="module")
def facts(demo):
    return TargetFacts.of(demo.model.config)


@pytest.fixture(scope="module")
def sound(demo, tmp_path_factory):
    """A draft that learned nothing, and is written as it should be."""
    folder = tmp_path_factory.mktemp("sound") / "draft"
    make_variant(demo).save_pretrained(folder)
    return folder


def ids(top, nested=None):
    """Lists of layer ids as they stand in config.json; None for none."""

    def damage(c, t):
        c[IDS], c["eagle_config"] = top, {IDS: nested}

    return damage


def tensors(**changes):
    """Tensors changed by functions; their names with __ for a dot."""

    def damage(c, t):
        for name, change in changes.items():
            name = name.replace("__", ".")
            t[name] = change(t.get(name)).contiguous()

    return damage


def scaled(**values):
    return config(rope_scaling={"rope_type": "default", **values})


def more(name, shape):
    return lambda c, t: t.update({name: torch.ones(shape)})


NORMS = both(*(more(f"fc_norm.{i}.weight", 256) for i in range(3)))
FAULTS = [  # damage, code of the finding, words in it
    (forget("hidden_size"), "hidden-size", "no hidden_size"),
    (config(hidden_size=128), "hidden-size", "hidden_size is 128, the target's is 256"),
    (config(hidden_size=128), "hidden-size-tensors", "fc.weight has 256 rows"),
    (config(target_hidden_size=512), "target-hidden-size", "512"),
    (tensors(fc__weight=lambda t: t[:, :-3]), "fc-width", "765 columns"),
    (both(forget("head_dim"), config(num_attention_heads=16)), "head-dim", "no head_dim"),
    (config(head_dim=32), "head-dim", "head_dim is 32"),
    (config(head_dim=32), "head-dim-tensors", "q_proj has"),
    (tensors(**{K.replace(".", "__"): lambda t: t[:-3]}), "head-dim-tensors", "k_proj has"),
    (forget("num_key_value_heads"), "heads", "no num_key_value_heads"),
    (config(num_key_value_heads=3), "heads", "cannot share 3"),
    (config(vocab_size=1281), "vocab-size", "1281"),
    (forget("draft_vocab_size"), "draft-vocab-size", "no draft_vocab_size"),
    (config(draft_vocab_size=399), "draft-vocab-size", "lm_head has 400 rows"),
    (tensors(d2t=lambda t: t[:-1]), "d2t-size", "399 entries"),
    (tensors(t2d=lambda t: t[:-1]), "t2d-size", "1279 entries"),
    (forget("d2t"), "d2t-missing", "no d2t"),
    (forget("norm.weight"), "tensors-missing", "norm.weight"),
    (tensors(norm__weight=lambda t: t[:-1]), "tensor-shapes", "norm.weight (255,)"),
    (more("extra.weight", 3), "tensors-unknown", "extra.weight"),
    (config(num_hidden_layers=2), "num-hidden-layers", "is 2"),
    (ids([5, 4, 3], [4, 3, 2]), "layer-ids-order", "[5, 4, 3]"),
    (ids([3, 4], [2, 3]), "layer-ids-order", "not three"),
    (ids([3, 4, 8], [2, 3, 7]), "layer-ids-range", "(0 to 7)"),
    (shift_ids(1), "layer-ids-off-by-one", "above"),
    (shift_ids(-1), "layer-ids-off-by-one", "below"),
    (ids([2, 4, 5], [1, 3, 4]), "layer-ids-deepstack", "Layer 2 receives"),
    (ids([3, 4, 5], [3, 4, 5]), "layer-ids-convention", "hold the same numbers"),
    (ids([3, 4, 5], [1, 3, 4]), "layer-ids-convention", "those of [2, 4, 5]"),
    (ids(None), "layer-ids-missing", "names no aux layers; engines then capture [2, 4, 5]"),
    (ids([3, 4, 5]), "layer-ids-missing", "nested list of aux layer ids is missing; SGLang"),
    (ids(None, [2, 3, 4]), "layer-ids-missing", "top-level list of aux layer ids is missing; vLLM"),
    (forget("rope_theta"), "rope-theta", "no rope_theta"),
    (config(rope_theta=5000.0), "rope-theta", "5000"),
    (config(max_position_embeddings=77), "max-positions", "77"),
    (config(rope_scaling={"rope_type": "yarn"}), "rope-scaling", "yarn"),
    (scaled(mrope_section=[1, 2, 3]), "mrope", "[1, 2, 3]"),
    (config(tie_word_embeddings=True), "tie-word-embeddings", "true"),
    (config(fc_norm=True), "fc-norm", "set, but its tensors"),
    (NORMS, "fc-norm", "not set"),
    (more("fc_norm.1.weight", 256), "fc-norm", "Only 1 of three"),
    (config(norm_before_fc=True), "norm-before-fc", "set, but its tensors"),
    (more("input_norm.weight", 768), "norm-before-fc", "not set"),
    (config(norm_before_residual=True), "norm-before-residual", "true"),
    (config(attention_bias=True), "attention-bias", "no biases"),
    (config(rms_norm_eps=0.1), "rms-norm-eps", "0.1"),
    (config(rms_norm_eps=0), "rms-norm-eps", "0"),
    (config(hidden_act="gelu"), "hidden-act", "gelu"),
    (tensors(norm__weight=lambda t: t / 0), "tensor-nan", "norm.weight"),
    (tensors(norm__weight=lambda t: t * 0), "tensor-zero", "norm.weight"),
    (config(torch_dtype="float16"), "dtype", "float16"),
    (tensors(norm__weight=lambda t: t.half()), "dtype", "float16 and float32"),
    (tensors(d2t=lambda t: t.bfloat16()), "d2t-dtype", "bfloat16"),
    (config(architectures=["LlamaForCausalLM"]), "architecture", "LlamaForCausalLM"),
    (tensors(d2t=lambda t: t + torch.arange(400)), "d2t-absolute", "absolute"),
    (both(forget("t2d"), tensors(d2t=lambda t: t + torch.arange(400))), "d2t-absolute", "beyond the target's vocabulary"),
    (tensors(d2t=lambda t: t * 0), "d2t-t2d", "disagree"),
    (tensors(t2d=lambda t: t | True), "d2t-t2d", "true for 1280 tokens"),
    (both(forget("t2d"), tensors(d2t=lambda t: t - 2000)), "d2t-range", "outside 0 to 1279"),
]


def test_a_sound_draft_raises_nothing(sound, facts):
    assert examine(read_raw(sound), facts) == []


def test_names_of_another_layout(sound, facts, tmp_path):
    found = examine(read_raw(planted(rename, sound, tmp_path / "draft")), facts)
    assert [(finding.code, finding.severity) for finding in found] == [("tensor-names", "warning")]


@pytest.mark.parametrize(("damage", "code", "words"), FAULTS, ids=[f"{code}: {words}" for _, code, words in FAULTS])
def test_every_finding(damage, code, words, sound, facts, tmp_path):
    found = examine(read_raw(planted(damage, sound, tmp_path / "draft")), facts)
    assert [finding for finding in found if finding.code == code and words in finding.what and finding.counts], found


def test_all_that_the_checks_say_is_tested():
    source = "".join(file.read_text() for file in Path(doctor.__file__).parent.glob("check_*.py"))
    codes = set(re.findall(r'(?:error|warning)\("([a-z0-9-]+)"', source))
    assert len(codes) > 30
    assert codes <= {code for _, code, _ in FAULTS}


def test_mrope_of_the_target_is_worth_a_note_and_a_mistake_for_a_text_target(demo, text_target, facts, tmp_path):
    make_variant(demo, mrope_section=facts.mrope_section, mrope_interleaved=True).save_pretrained(tmp_path / "vision")
    assert [(f.code, f.severity) for f in examine(read_raw(tmp_path / "vision"), facts)] == [("mrope", "note")]
    make_variant(text_target).save_pretrained(tmp_path / "text")
    text = TargetFacts.of(text_target.model.config)
    assert examine(read_raw(tmp_path / "text"), text) == []
    make_variant(text_target, mrope_section=(6, 5, 5)).save_pretrained(tmp_path / "odd")
    assert [(f.code, f.severity) for f in examine(read_raw(tmp_path / "odd"), text)] == [("mrope", "error")]


def test_biases_that_are_announced_are_no_fault(sound, facts, tmp_path):
    damage = both(config(attention_bias=True), lambda c, t: t.update({BIAS: torch.ones(len(t[Q]))}))
    assert examine(read_raw(planted(damage, sound, tmp_path / "draft")), facts) == []

"""Faults to plant into a draft, and those that show in acceptance with the names by which the doctor has to call them."""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file

Q, K, V = (f"midlayer.self_attn.{n}_proj.weight" for n in "qkv")


@dataclass(frozen=True)
class Plant:
    """`damage(config, tensors)` edits both in place. `names`: codes or interpretations of findings, one of which must be there.
    `diagnosis`: the interpretation that must bring acceptance back; None if none can."""

    name: str
    damage: object
    names: tuple[str, ...]
    diagnosis: str | None = None


def config(**values):
    return lambda c, t: c.update(values)


def shift_ids(by, top=True, nested=True):
    def damage(c, t):
        key = "eagle_aux_hidden_state_layer_ids"
        if top:
            c[key] = [i + by for i in c[key]]
        if nested:
            c["eagle_config"][key] = [i + by for i in c["eagle_config"][key]]

    return damage


def permute_heads(c, t):
    """Rows of each head from halves to pairs."""
    k = c["head_dim"]
    for name in (Q, K):
        heads = t[name].view(-1, 2, k // 2, t[name].shape[1])
        t[name] = heads.transpose(1, 2).reshape(t[name].shape).contiguous()


def absolute(c, t):
    t["d2t"] = t["d2t"] + torch.arange(len(t["d2t"]))


def absolute_without_t2d(c, t):
    absolute(c, t)
    del t["t2d"]


def identity(c, t):
    t["d2t"] = torch.zeros_like(t["d2t"])


def fc_blocks(*order):
    def damage(c, t):
        blocks = t["fc.weight"].chunk(3, 1)
        t["fc.weight"] = torch.cat([blocks[i] for i in order], 1).contiguous()

    return damage


def swap_halves(c, t):
    for name in (Q, K, V):
        t[name] = torch.cat(t[name].chunk(2, 1)[::-1], 1).contiguous()


def swap_gate_up(c, t):
    gate, up = "midlayer.mlp.gate_proj.weight", "midlayer.mlp.up_proj.weight"
    t[gate], t[up] = t[up], t[gate]


def zero_centred(c, t):
    for name in [n for n in t if "norm" in n]:
        t[name] = t[name] - 1


def split_heads(c, t):
    c.update(head_dim=c["head_dim"] // 2, num_attention_heads=c["num_attention_heads"] * 2)
    c["num_key_value_heads"] *= 2


def nan(c, t):
    t["midlayer.mlp.up_proj.weight"][3, 5] = float("nan")


def zero(c, t):
    t["midlayer.self_attn.o_proj.weight"].zero_()


def fewer_words(c, t):
    """Keeps every fourth draft token."""
    ids = (t["d2t"] + torch.arange(len(t["d2t"])))[::4]
    t["lm_head.weight"] = t["lm_head.weight"][::4].contiguous()
    t["d2t"] = ids - torch.arange(len(ids))
    t["t2d"] = torch.zeros_like(t["t2d"]).index_fill_(0, ids, True)
    c["draft_vocab_size"] = len(ids)


def odd_keys(c, t):
    for name in (K, V):
        t[name] = t[name][:-3].contiguous()


def random_head(c, t):
    torch.manual_seed(0)
    for name, tensor in t.items():
        if tensor.is_floating_point():
            t[name] = torch.ones_like(tensor) if tensor.ndim == 1 else torch.randn_like(tensor) * 0.02


def other_words(c, t):
    """As if the same draft had learned from a target that uses other tokens: the words of its head trade places."""
    torch.manual_seed(0)
    t["lm_head.weight"] = t["lm_head.weight"][torch.randperm(len(t["lm_head.weight"]))].contiguous()


def rename(c, t):
    for name in [n for n in t if n.startswith("midlayer.")]:
        t[name.replace("midlayer.", "layers.0.")] = t.pop(name)


def forget(*names):
    def damage(c, t):
        for name in names:
            t.pop(name, None)
            c.pop(name, None)

    return damage


def both(*damages):
    def damage(c, t):
        for one in damages:
            one(c, t)

    return damage


PLANTS = (
    Plant("ids one too high", shift_ids(1), ("ids-down",), "ids-down"),
    Plant("ids one too low", shift_ids(-1), ("ids-up",), "ids-up"),
    Plant("ids beyond the target", shift_ids(40), ("layer-ids-range",), "ids-default"),
    Plant("d2t absolute", absolute, ("d2t-absolute",), "d2t-absolute"),
    Plant("d2t absolute, no t2d", absolute_without_t2d, ("d2t-absolute",), "d2t-absolute"),
    Plant("d2t lost its offsets", identity, ("d2t-t2d",), "d2t-from-t2d"),
    Plant("rope_theta 10000", config(rope_theta=10000.0), ("rope-theta",), "theta-target"),
    Plant("rotary rows in pairs", permute_heads, ("rotary-pairs",), "rotary-pairs"),
    Plant("fc blocks reversed", fc_blocks(2, 1, 0), ("aux-order-210",), "aux-order-210"),
    Plant("fc blocks rotated", fc_blocks(1, 2, 0), ("aux-order-120", "aux-order-201"), "aux-order-120"),
    Plant("embedding and hidden swapped", swap_halves, ("halves-swapped",), "halves-swapped"),
    Plant("gate and up swapped", swap_gate_up, ("gate-up-swapped",), "gate-up-swapped"),
    Plant("norms zero-centred", zero_centred, ("norm-offset",), "norm-offset"),
    Plant("head_dim halved", split_heads, ("head-dim",), "head-dim-*"),
    Plant("norm_before_residual", config(norm_before_residual=True), ("norm-before-residual",), "norm-before-residual"),
    Plant("norm_output", config(norm_output=True), ("norm-output",), "norm-output"),
    Plant("draft vocabulary too small", fewer_words, ("coverage",)),
    Plant("untrained", random_head, ("untrained",)),
    Plant("learned from another target", other_words, ("other-answers",)),
    Plant("two at once", both(absolute, swap_halves), ("d2t-absolute", "halves-swapped"), "d2t-absolute"),
    Plant("three at once", both(absolute, permute_heads, fc_blocks(2, 1, 0)), ("aux-order-210",), "d2t-absolute"),
)  # fmt: skip


def planted(damage, source, folder):
    """A damaged copy of a draft directory."""
    config, tensors = json.loads((source / "config.json").read_text()), load_file(source / "model.safetensors")
    damage(config, tensors)
    return write(folder, config, tensors)


def write(folder, config, tensors):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder

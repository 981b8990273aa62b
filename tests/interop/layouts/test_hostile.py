"""Files made to harm, or broken on the way: refused in one clear line, nothing executed, nothing half written."""

import io
import json
import os
import pickle
from contextlib import redirect_stderr, suppress

import foreign
import pytest
import torch
from safetensors.torch import load_file, save_file
from variants import make_variant

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import import_
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.read import read_draft


@pytest.fixture
def folder(target, tmp_path):
    """A good draft in SpecForge's layout, about to be spoiled."""
    return foreign.specforge(make_variant(target), tmp_path / "source")


def refused(folder, said):
    """Both ways in refuse, and the import leaves nothing behind."""
    with pytest.raises(UserError, match=said):
        read_draft(folder)
    code, error = import_to(folder, folder.parent / "out")
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1, "one line"
    assert [f.name for f in folder.parent.iterdir()] == ["source"]


def import_to(folder, out):
    """`vlm-eagle import`: its exit code, and what it says."""
    said = io.StringIO()
    with redirect_stderr(said):
        code = run_cli(import_.main, import_.Config, "", argv=["--source", str(folder), "--out", str(out)])
    return code, said.getvalue()


def spoil(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated_safetensors(folder, kept):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:kept])
    refused(folder, "unreadable or truncated")


class Bomb:
    """Unpickled without care, it makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch", "torch legacy", "pickle"])
def test_a_pickle_with_code_is_not_executed(folder, tmp_path, how):
    mark = tmp_path.parent / f"{tmp_path.name}-executed"
    tensors = load_file(folder / "model.safetensors") | {"fc.weight": Bomb(mark)}
    (folder / "model.safetensors").unlink()
    if how == "pickle":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=how == "torch")
    refused(folder, "nothing in it was executed")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb is a dud: the test says nothing"


@pytest.mark.parametrize(
    "value",
    [{"fc.weight": torch.empty(1).expand(10**6, 10**6)}, {"fc.weight": torch.ones(3).to_sparse()}, {"fc.weight": 3},
     {7: torch.ones(1)}, [torch.ones(1)]],
)  # fmt: skip
def test_pickles_of_strange_tensors(folder, value):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors | value if isinstance(value, dict) else value, folder / "pytorch_model.bin")
    refused(folder, "ordinary tensor|instead of named tensors")


def test_a_truncated_pickle(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    refused(folder, "truncated or holds more than tensors; nothing in it")


def test_a_config_of_one_gigabyte_is_not_read(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**30)  # sparse: takes no disk, but reading it would take a gigabyte
    refused(folder, "more than 1,000,000 is no configuration")
    with pytest.raises(UserError, match="Not read"):
        Eagle3Draft.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, "{" + '"a":{' * 50_000, '{"hidden_size": ' + "9" * 5000 + "}", "\x00"]
)
def test_configs_that_are_none(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "config.json")


STRANGE = [None, "x", -1, 0, 1.5, 10**400, float("nan"), float("inf"), [], [None], [[]], {}, {"a": 1}, True]


@pytest.mark.slow
def test_no_value_in_a_config_is_too_strange(folder):
    """Read or refused, for every key that is looked at."""
    row = json.loads((folder / "config.json").read_text())
    more = ("layer_types", "rope_parameters", "logit_scale", "use_sliding_window", "dtype", "transformer_layer_config")
    for key in [*row, *more, "speculators_model_type"]:
        for value in STRANGE:
            for strange in (
                row | {key: value},
                {"transformer_layer_config": row | {key: value}, "speculators_model_type": "eagle3"},
            ):
                (folder / "config.json").write_text(json.dumps(strange))
                with suppress(UserError):
                    read_draft(folder, num_layers=8)


@pytest.mark.parametrize(
    "shard", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".hidden.safetensors", "x.bin"]
)
def test_an_index_leads_nowhere_else(folder, tmp_path, shard):
    foreign.shards(folder, {"fc.weight": shard})
    outside = folder.parent.parent / "outside.safetensors"
    save_file({"fc.weight": torch.zeros(1)}, outside)
    refused(folder, "Shards must be safetensors files in the same folder")


def test_an_index_that_promises_too_much(folder):
    foreign.shards(folder, {"fc.weight": "model-9.safetensors"})
    refused(folder, "unreadable")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["fc.weight"] = next(s for n, s in index["weight_map"].items() if n == "norm.weight")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for broken in ({}, {"weight_map": []}, {"weight_map": {"fc.weight": 3}}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(broken))
        refused(folder, "no weight_map|lack|missing|unreadable")


def test_integer_weights(folder):
    spoil(folder, lambda t: t.update({"fc.weight": t["fc.weight"].int()}))
    refused(folder, "wrong dtypes: fc.weight torch.int32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, value):
    spoil(folder, lambda t: t["lm_head.weight"].__setitem__((0, 0), value))
    refused(folder, "NaN or infinity in lm_head.weight")


@pytest.mark.parametrize("name", ["fc.weight", "lm_head.weight", "midlayer.self_attn.q_proj.weight", "d2t"])
def test_missing_and_misshapen_tensors(folder, name):
    spoil(folder, lambda t: t.update({name: t[name][:-1].clone()}))
    refused(folder, "instead of|expected|do not match|rows")
    spoil(folder, lambda t: t.pop(name))
    if name == "d2t":  # what t2d says is enough
        assert read_draft(folder).notes == ["d2t made from t2d"]
    else:
        refused(folder, "missing")


def test_a_scalar_where_a_matrix_should_be(folder):
    for name in ("fc.weight", "lm_head.weight"):
        spoil(folder, lambda t, name=name: t.update({name: torch.tensor(1.0)}))
        refused(folder, "instead of|rows")


def test_nothing_is_overwritten(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    code, error = import_to(folder, tmp_path / "out")
    assert code == 2
    assert "exists already" in error
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine"]

"""What an export checks, writes and uploads."""

import json
from dataclasses import replace

import foreign
import pytest
import torch
import yaml
from conftest import make_draft
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from variants import make_variant

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import export, import_
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.errors import UserError
from vlm_eagle.interop.layouts.checks import check_target
from vlm_eagle.interop.layouts.write import write_draft
from vlm_eagle.interop.model_card import model_card
from vlm_eagle.target.load import load_target, read_config

RUN = {
    "config": {
        "target": "demo", "epochs": 2.0, "batch_size": 8, "gradient_accumulation_steps": 2, "data": {"max_length": 512},
        "draft": {"ttt_length": 7, "loss": "soft_cross_entropy", "decay": 0.9, "image_inputs": "token"},
        "optim": {"optimizer": "muon", "lr": 0.003, "schedule": "cosine"},
    },
    "samples": 1728, "step": 486, "draft_vocab_coverage": 0.98765, "best_simulated_acceptance_length": 5.6412,
    "versions": {"torch": "2.15.0", "transformers": "5.23.0"}, "git_commit": "43b1b8e",
}  # fmt: skip


def column(tokens, *lengths):
    rows = [{"name": name, "acceptance_length": x} for name, x in zip(("describe", "chinese"), lengths, strict=True)]
    average = sum(lengths) / len(lengths)
    return {
        "num_draft_tokens": tokens, "topk": 1, "sampling": {"temperature": 0.0}, "average_acceptance_length": average,
        "benchmarks": rows,
    }  # fmt: skip


RESULTS = {"settings": [column(4, 3.44, 3.26), column(8, 5.75, 4.73)], "run": {"versions": {"torch": "2.15.0"}}}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    """What training and evaluation leave, for the demo target."""
    folder = tmp_path_factory.mktemp("run")
    make_draft(load_target("demo", dtype="float32"), draft_vocab_size=64).save_pretrained(folder / "draft")
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "acc_length.json").write_text(json.dumps(RESULTS))
    return folder


def run(module, *words):
    return run_cli(module.main, module.Config, "", argv=words)


@pytest.mark.parametrize("form", ["native", "sglang", "vllm", "speculators"])
def test_an_export_comes_back_bit_by_bit(demo_run, tmp_path, form, capsys):
    assert run(export, "--draft", str(demo_run / "draft"), "--format", form, "--out", str(tmp_path / "out")) == 0
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert run(import_, "--source", str(tmp_path / "out"), "--target", "demo", "--out", str(tmp_path / "back")) == 0
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (demo_run / "draft" / name).read_bytes()
    assert "Written to" in capsys.readouterr().out


def test_the_speculators_form(demo_run, tmp_path):
    run(export, "--draft", str(demo_run / "draft"), "--format", "speculators", "--out", str(tmp_path / "out"))
    row = json.loads((tmp_path / "out" / "config.json").read_text())
    assert row["speculators_config"]["verifier"]["architectures"] == ["Qwen3VLForConditionalGeneration"]
    assert row["eagle_aux_hidden_state_layer_ids"] == [3, 4, 5]
    assert row["transformer_layer_config"]["rope_parameters"] == {"rope_type": "default", "rope_theta": 100_000.0}
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert "layers.0.self_attn.q_proj.weight" in tensors
    assert tensors["embed_tokens.weight"].shape == (1280, 256)


def test_the_card_says_what_the_runs_say(draft):
    card = model_card(draft.config, form="vllm", target="Qwen/Qwen3-VL-2B-Instruct", draft="me/eagle3", vision=True,
                      run=RUN, results=RESULTS, remarks=["mind the gap"])  # fmt: skip
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head) == {
        "license": "apache-2.0", "base_model": ["Qwen/Qwen3-VL-2B-Instruct"], "pipeline_tag": "image-text-to-text",
        "tags": ["speculative-decoding", "eagle", "eagle3"],
    }  # fmt: skip
    for line in (
        "# EAGLE-3 Draft Model for Qwen3-VL-2B-Instruct",
        "| Benchmark | num_draft_tokens=4 | num_draft_tokens=8 |",
        "| describe | 3.44 | 5.75 |",
        "| **Average** | **3.35** | **5.24** |",
        "| Samples | 1728 |",
        "| Optimizer | muon, cosine schedule |",
        "| Draft vocabulary covers | 98.77% of answer tokens |",
        "| Held-out simulated acceptance length | 5.64 |",
        "    --speculative-draft-model-path me/eagle3 \\",
        "vllm serve Qwen/Qwen3-VL-2B-Instruct \\",
        '"model": "me/eagle3", "num_speculative_tokens": 3}\'',
        "> mind the gap.",
        "Apache License 2.0.",
    ):
        assert line in body, line
    for heading in ("Model Overview", "Performance", "Usage", "Training Details", "Model Architecture", "License"):
        assert f"\n\n## {heading}\n\n" in body
    assert "\n\n\n" not in body


def test_a_card_of_what_is_not_known(draft):
    card = model_card(draft.config, form="speculators", target="/models/mine", draft="d", vision=False, licence="mit")
    assert "base_model" not in card
    assert "library_name: speculators" in card
    assert "Not measured yet." in card
    assert "Not recorded." in card
    with pytest.raises(UserError, match="no results of vlm-eagle score"):
        model_card(draft.config, form="vllm", target="t", draft="d", vision=False, results={"settings": [{}]})


def test_a_card_from_odd_files(draft):
    """What others wrote into run.json is left out; results that are none are refused."""
    options = {"form": "vllm", "target": "t", "draft": "d", "vision": False}
    for run in ({"config": 3}, {"config": {"data": [], "optim": "x"}, "versions": 1}, {"draft_vocab_coverage": "most"}):
        assert "| Framework | vlm_eagle (versions unknown) |" in model_card(draft.config, **options, run=run)
    for results in ({"settings": 3}, {"settings": ["x"]}, {"settings": [{**column(4, 3.0, 2.0), "sampling": []}]}):
        with pytest.raises(UserError, match="no results of vlm-eagle score"):
            model_card(draft.config, **options, results=results)


def test_a_card_says_where_it_was_measured(draft):
    served = {**column(4, 3.0, 2.0), "engine": {"kind": "vllm", "version": "0.32.0"}}
    options = {"form": "vllm", "target": "t", "draft": "d", "vision": False}
    said = model_card(draft.config, **options, results={"settings": [served]})
    assert "Measured in vllm 0.32.0 with greedy decoding.\n" in said
    both = {**RESULTS, "settings": [column(4, 3.0, 2.0), served]}
    assert "Measured in PyTorch and vllm 0.32.0 with greedy decoding, torch 2.15.0." in model_card(
        draft.config, **options, results=both
    )


def test_a_folder_is_no_hub_id(draft, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "base_model" in model_card(draft.config, form="vllm", target="targets/mine", draft="d", vision=False)
    (tmp_path / "targets" / "mine").mkdir(parents=True)
    assert "base_model" not in model_card(draft.config, form="vllm", target="targets/mine", draft="d", vision=False)


def test_results_of_several_drafts_and_temperatures(demo_run, tmp_path, capsys):
    """Only this draft's columns, each with its temperature."""
    mine, theirs = str(demo_run / "draft"), "drafts/theirs"
    warm = {**column(8, 4.0, 3.0), "sampling": {"temperature": 0.6}}
    settings = [{**column(8, 5.0, 4.0), "draft": mine}, {**warm, "draft": mine}, {**column(8, 2.0, 1.5), "draft": theirs}]
    (tmp_path / "both.json").write_text(json.dumps({"settings": settings}))
    words = ["--draft", mine, "--acc-length", str(tmp_path / "both.json"), "--out"]
    assert run(export, *words, str(tmp_path / "out")) == 0
    assert "differs" not in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Benchmark | num_draft_tokens=8, T=0 | num_draft_tokens=8, T=0.6 |" in card
    assert "| describe | 5.00 | 4.00 |" in card
    assert "at temperature 0.0 and 0.6." in card
    (tmp_path / "both.json").write_text(json.dumps({"settings": settings[2:]}))
    assert run(export, *words, str(tmp_path / "moved")) == 0
    assert "differs: the card's acceptance lengths were measured with the draft drafts/theirs" in capsys.readouterr().out
    (tmp_path / "both.json").write_text(json.dumps({"settings": [{**settings[0], "draft": "a"}, settings[2]]}))
    assert run(export, *words, str(tmp_path / "other")) == 2
    assert not (tmp_path / "other").exists()


def test_push_to_hub(demo_run, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **more: calls.append((name, more)))

    def upload(self, *, repo_id, folder_path, commit_message):
        calls.append((repo_id, sorted(f.name for f in folder_path.iterdir())))
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    words = ["--draft", str(demo_run / "draft"), "--out", str(tmp_path / "out"), "--push-to-hub", "me/draft", "--private"]
    assert run(export, *words) == 0
    assert calls == [
        ("me/draft", {"private": True, "exist_ok": True}),
        ("me/draft", ["README.md", "config.json", "model.safetensors"]),
    ]
    assert '"model": "me/draft"' in (tmp_path / "out" / "README.md").read_text()
    assert "https://huggingface.co/me/draft" in capsys.readouterr().out
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **more: (_ for _ in ()).throw(OSError("no network")))
    assert run(export, *words[:2], "--out", str(tmp_path / "again"), "--push-to-hub", "me/draft") == 2
    assert "is written, but the upload" in capsys.readouterr().err
    assert (tmp_path / "again" / "README.md").is_file()


def test_options_an_engine_lacks_are_refused(target, tmp_path):
    for form, options, said in (
        ("sglang", {"norm_before_residual": True}, "no such option"),
        ("sglang", {"qk_norm": True}, "would skip them"),
        ("sglang", {"has_own_embed_tokens": True}, "in their place"),
        ("speculators", {"mrope_section": (6, 5, 5)}, "one coordinate"),
        ("speculators", {"norm_before_fc": True, "fc_norm": True}, "one of them"),
    ):
        draft = make_variant(target, **options)
        with pytest.raises(UserError, match=said):
            write_draft(tmp_path, form, draft.config, foreign.tensors_of(draft))
    assert not list(tmp_path.iterdir())
    draft = make_variant(target, mrope_section=(6, 5, 5))
    assert "sequence index" in " ".join(write_draft(tmp_path, "vllm", draft.config, foreign.tensors_of(draft)))


def test_maps_that_disagree_are_not_exported(target, tmp_path):
    draft = make_variant(target)
    tensors = foreign.tensors_of(draft)
    with pytest.raises(UserError, match="t2d"):
        write_draft(tmp_path, "native", draft.config, tensors | {"t2d": tensors["t2d"].roll(1)})
    assert not list(tmp_path.iterdir())


def test_remarks_on_serving(target, tmp_path):
    for name, form, options, said in (
        ("a", "native", {"has_own_embed_tokens": True}, "vLLM uses them, SGLang does not"),
        ("b", "vllm", {"fc_norm": True, "norm_output": True}, "need vLLM 0.32"),
        ("c", "native", {}, ""),
    ):
        draft = make_variant(target, **options)
        assert said in " ".join(remarks := write_draft(tmp_path / name, form, draft.config, foreign.tensors_of(draft)))
        assert len(remarks) == bool(said)
    wide = replace(make_variant(target).config, hidden_size=128, has_own_embed_tokens=True)
    draft = Eagle3Draft(wide, DraftVocab.from_counts(torch.arange(1280), 400))
    with pytest.raises(UserError, match="a width that is not the target's"):
        write_draft(tmp_path / "d", "speculators", wide, foreign.tensors_of(draft))


def test_a_broken_draft_is_not_exported(demo_run, tmp_path, capsys):
    Eagle3Draft.from_pretrained(demo_run / "draft").save_pretrained(tmp_path / "draft")
    tensors = load_file(tmp_path / "draft" / "model.safetensors")
    tensors["norm.weight"][3] = float("nan")
    save_file(tensors, tmp_path / "draft" / "model.safetensors")
    words = ["--draft", str(tmp_path / "draft"), "--target", "demo", "--out", str(tmp_path / "out")]
    assert run(export, *words) == 2
    assert "NaN or infinity in norm.weight" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["draft"]
    assert run(export, "--draft", str(tmp_path / "draft"), "--out", str(tmp_path / "out")) == 2
    assert "Give --target" in capsys.readouterr().err
    for strange in ({"config": 3}, {"config": {"target": 3}}):
        (tmp_path / "run.json").write_text(json.dumps(strange))
        assert run(export, "--draft", str(tmp_path / "draft"), "--out", str(tmp_path / "out")) == 2
        assert "Give --target" in capsys.readouterr().err


def test_the_config_is_held_against_the_target(demo_run):
    config, target = Eagle3Draft.from_pretrained(demo_run / "draft").config, read_config("demo")
    assert check_target(config, target, "demo") == []
    for change, said in (
        ({"rope_theta": 10_000.0}, "rope_theta: the draft has 10000.0, demo has 100000.0"),
        ({"max_position_embeddings": 77}, "max_position_embeddings: the draft has 77, demo has 4096"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps: the draft has 1e-05, demo has 1e-06"),
    ):
        assert check_target(replace(config, **change), target, "demo") == [said]
    section = tuple(target.text_config.rope_parameters["mrope_section"])
    assert check_target(replace(config, mrope_section=section, mrope_interleaved=True), target, "demo") == []
    assert "M-RoPE" in check_target(replace(config, mrope_section=section), target, "demo")[0]
    for change, said in (
        ({"target_hidden_size": 128}, "target_hidden_size 128"),
        ({"hidden_size": 128}, "hidden_size 128"),
        ({"vocab_size": 1281}, "vocab_size 1281"),
        ({"aux_layer_ids": (3, 4, 8)}, "aux layer ids"),
        ({"aux_layer_ids": (5, 4, 3)}, "aux layer ids"),
    ):
        with pytest.raises(UserError, match=said):
            check_target(replace(config, **change), target, "demo")


def test_own_embeddings_allow_another_width(demo_run):
    config = replace(Eagle3Draft.from_pretrained(demo_run / "draft").config, hidden_size=128, has_own_embed_tokens=True)
    assert check_target(config, read_config("demo"), "demo") == []

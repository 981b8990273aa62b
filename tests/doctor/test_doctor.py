"""The doctor: nothing to say about healthy drafts, and the right name for every planted fault."""

import copy
import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from by_heart import PROMPTS, train_by_heart
from plants import PLANTS, forget, nan, odd_keys, planted, write, zero
from safetensors.torch import load_file
from variants import VARIANTS, make_variant

from vlm_eagle.data.conversation import Conversation, user_message
from vlm_eagle.doctor import diagnose as diagnosing
from vlm_eagle.doctor.cases import make_cases
from vlm_eagle.doctor.interpretation import as_written
from vlm_eagle.doctor.interpreter import Interpreter, _Run
from vlm_eagle.doctor.misconfigurations import known_misconfigurations
from vlm_eagle.doctor.raw_draft import read_raw
from vlm_eagle.doctor.search import search
from vlm_eagle.doctor.target_facts import TargetFacts
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.errors import UserError
from vlm_eagle.target.load import load_target
from vlm_eagle.training.ttt_dense import TTTAttention


@pytest.fixture(scope="module")
def demo():
    return load_target("demo", dtype="float32", layer_ids=(3, 4, 5))


@pytest.fixture(scope="module")
def cases(demo):
    return make_cases(demo, PROMPTS, range(8), 48)[0]


@pytest.fixture(scope="module")
def healthy(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy") / "draft"
    train_by_heart(demo).save_pretrained(folder)
    return folder


@pytest.fixture
def examined(demo, cases, monkeypatch):
    """A draft directory, with the target's answers already there."""
    monkeypatch.setattr(diagnosing, "make_cases", lambda *_: (cases, Counter()))
    return lambda folder: diagnosing.diagnose(demo, read_raw(folder), PROMPTS)


def names(report):
    findings = [finding for finding in report.findings if finding.counts]
    return {finding.code for finding in findings} | {finding.interpretation for finding in findings}


@pytest.mark.slow
def test_a_healthy_draft_raises_nothing(examined, healthy):
    report = examined(healthy)
    assert report.findings == []
    assert not report.problems_found
    assert report.search.before.total.first > 0.9
    json.dumps(report.to_json())


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_fault_that_shows_in_acceptance(plant, examined, healthy, tmp_path):
    report = examined(planted(plant.damage, healthy, tmp_path / "draft"))
    assert report.problems_found
    assert names(report) & set(plant.names), names(report)
    if plant.diagnosis:
        assert report.diagnosis[0].startswith(plant.diagnosis.removesuffix("*"))
        assert report.search.after.total.first > 0.9
        before, after = (sum(measured.total.by_position[:3]) for measured in (report.search.before, report.search.after))
        assert after > before  # it was unrolled over three steps
    else:
        assert report.diagnosis == []


def test_every_layer_that_a_list_of_ids_may_mean_is_heard(demo, healthy, tmp_path, monkeypatch):
    """vLLM's list, SGLang's, the engines' default and the trainers', each with its neighbours."""
    config = json.loads((healthy / "config.json").read_text()) | {"eagle_aux_hidden_state_layer_ids": [3, 4, 5]}
    config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = [10, 20, 30]
    heard = []
    monkeypatch.setattr(diagnosing, "make_cases", lambda target, prompts, ids, limit: heard.extend(ids) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diagnosing.diagnose(demo, read_raw(write(tmp_path, config, load_file(healthy / "model.safetensors"))), PROMPTS)
    assert set(heard) == {1, 2, 3, 4, 5, 6} | {10, 11, 12, 20, 21, 22, 30, 31, 32}


def test_prompts_that_cannot_be_used_are_counted(demo, tmp_path):
    missing = Conversation("m", (user_message("What is it?", (tmp_path / "nothing.png",)),), "mine:1")
    found, skipped = make_cases(demo, [PROMPTS[0], missing], [3], 8)
    assert (len(found), skipped) == (1, {"image missing": 1})
    assert make_cases(demo, PROMPTS[:1], [3], 3)[1] == {}
    for limit, said in ((2, "every answer has fewer than 3 tokens"), (8, "mine:1: image missing")):
        with pytest.raises(UserError, match=said):
            make_cases(demo, [PROMPTS[0]] if limit == 2 else [missing], [3], limit)


@pytest.mark.slow
def test_what_only_images_tell(demo, cases, examined, healthy, tmp_path):
    """Position scheme and embeddings at image tokens: a draft trained with the index on pad tokens fits better read so. (Four
    prompts with images are too few for a diagnosis; without any, these interpretations are not tried.)"""
    scaling = {"rope_type": "default", "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    draft = read_raw(planted(lambda c, t: c.update(rope_scaling=scaling), healthy, tmp_path / "draft"))
    found = diagnosing.diagnose(demo, draft, PROMPTS, image_inputs="visual_embeds").search
    tried = {row.misconfiguration.name: row for row in [*found.steps, *found.tried.values()]}
    for name in ("positions-1d", "token-embeddings"):
        assert tried[name].misconfiguration.images
        assert tried[name].gain > 0
    assert tried["positions-1d"].gain > tried["mrope-chunked"].gain


def test_without_images_their_readings_are_not_tried(demo, cases, healthy):
    raw, facts = read_raw(healthy), TargetFacts.of(demo.model.config)
    interpreter = Interpreter(raw.tensors, demo.embed_tokens.weight, demo.lm_head_weight, facts.mrope_section)
    misconfigurations = known_misconfigurations(as_written(raw, facts), raw, facts)
    chosen = [m for m in misconfigurations if m.images or m.name == "gate-up-swapped"]
    texts = [case for case in cases if not case.has_image]
    assert len(chosen) >= 4
    found = search(interpreter, texts, as_written(raw, facts), lambda _: chosen, set())
    assert set(found.tried) == {"gate-up-swapped"}


def test_what_cannot_be_run_is_not_measured(examined, healthy, tmp_path):
    for damage in (odd_keys, nan, forget("norm.weight"), zero):
        report = examined(planted(damage, healthy, tmp_path / "draft"))
        assert (report.search, report.problems_found) == (None, True)
        assert report.unmeasured


@pytest.mark.slow
def test_a_base_that_training_ignored_and_one_that_it_used(demo, examined, tmp_path):
    """The same draft, trained at 10000, with a config.json that denies it and one that says so."""
    folder = tmp_path / "draft"
    train_by_heart(demo, rope_theta=10000.0).save_pretrained(folder)
    honest = examined(folder)
    assert [(f.code, f.severity) for f in honest.findings] == [("rope-theta", "note")]
    config = json.loads((folder / "config.json").read_text())
    write(folder, config | {"rope_theta": 100000.0}, load_file(folder / "model.safetensors"))
    assert examined(folder).diagnosis == ["theta-10000"]


@pytest.mark.slow
def test_a_draft_trained_without_shifting_its_tokens(demo, examined, tmp_path):
    folder = tmp_path / "draft"
    teach = lambda features: replace(features, aux_hidden=features.aux_hidden.roll(-1, 1))
    train_by_heart(demo, teach=teach).save_pretrained(folder)
    report = examined(folder)
    assert report.diagnosis == ["alignment-0-1"]
    assert report.search.before.total.first < 0.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("image_inputs", ["token", "visual_embeds"])
def test_the_reader_computes_what_the_draft_computes(variant, image_inputs, demo, cases, tmp_path):
    facts, options = TargetFacts.of(demo.model.config), dict(VARIANTS[variant])
    if "mrope_section" in options:
        options["mrope_section"] = facts.mrope_section
    make_variant(demo, **options).save_pretrained(tmp_path)
    draft, raw = Eagle3Draft.from_pretrained(tmp_path), read_raw(tmp_path)
    case = next(case for case in cases if case.has_image)
    own = draft.config.has_own_embed_tokens  # vLLM takes them, so a draft that has them is not ill; config.json does not say so
    interpretation = replace(as_written(raw, facts, image_inputs), own_embedding=own)
    interpreter = Interpreter(raw.tensors, demo.embed_tokens.weight, demo.lm_head_weight, facts.mrope_section)
    rows = torch.arange(case.prompt - 1, len(case.ids) - 2)
    run = _Run(interpreter, interpretation, case, rows)
    index, attend = torch.arange(len(case.ids)), TTTAttention()
    places = case.mrope[:, None] if draft.config.mrope_section else index[None]
    table = draft.embed_tokens if own else demo.embed_tokens
    hidden = draft.fuse(torch.cat([case.states[i] for i in (3, 4, 5)], -1)[None])
    for k in range(3):
        at = (index + 1 + k).clamp_max(len(index) - 1)
        embedding = table(case.ids[at])
        if image_inputs == "visual_embeds":
            embedding = case.inputs_embeds[at].where(case.visual[at, None], embedding)
        with torch.no_grad():
            hidden = draft.step(hidden, embedding[None], places + k, attend)
        torch.testing.assert_close(run.step(k), draft.logits(hidden)[0, rows], atol=1e-4, rtol=1e-4)


def test_hostile_directories_are_explained(healthy, demo, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_raw(tmp_path / "nothing")
    weights = (healthy / "model.safetensors").read_bytes()
    for text, data, code in (
        ("", weights, "config-unreadable"),
        ("{", weights, "config-unreadable"), ("[1]", weights, "config-unreadable"), ("[" * 99_999, b"", "config-unreadable"),
        (" " * 2**21, weights, "config-unreadable"), ("\x00", weights, "config-unreadable"),
        ((healthy / "config.json").read_text(), weights[:5000], "weights-unreadable"),
        ((healthy / "config.json").read_text(), b"", "weights-unreadable"),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "model.safetensors").write_bytes(data)
        report = diagnosing.diagnose(demo, read_raw(tmp_path), PROMPTS)
        assert code in {finding.code for finding in report.findings}
        assert report.unmeasured
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "weights-missing" in {finding.code for finding in read_raw(tmp_path).findings}


STRANGE = (
    None, "x", -1, 0, 0.5, 1.5, 10**30, 10**400, math.nan, math.inf, True, [], [None], [[]], {}, {"a": 1},
    {"rope_theta": math.nan},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("value", STRANGE, ids=lambda value: str(value)[:20])
def test_no_value_in_config_json_is_too_strange(value, healthy, demo, cases):
    facts, raw = TargetFacts.of(demo.model.config), read_raw(healthy)
    interpreter = Interpreter(raw.tensors, demo.embed_tokens.weight, demo.lm_head_weight, facts.mrope_section)
    for key in [*raw.config, "rope_parameters", "norm_output", "fc_norm", "transformer_layer_config"]:
        strange = copy.copy(raw)
        strange.config = raw.config | {key: value}
        if key == "num_attention_heads":  # then head_dim follows from it
            del strange.config["head_dim"]
        diagnosing.examine(strange, facts)
        if diagnosing.joins(strange, facts):
            interpreter(as_written(strange, facts), cases[0], 1)

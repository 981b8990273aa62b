"""A place where answers part is a tie only if rounding can explain it."""

import copy
import json

import pytest
import torch
from conftest import make_draft

from vlm_eagle.cli import run_cli
from vlm_eagle.commands.lossless import SHAPES, Config, main
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.demo import mix
from vlm_eagle.evaluation import lossless
from vlm_eagle.evaluation.lossless import Parting, measure_parting
from vlm_eagle.target.target import Target


@pytest.mark.parametrize("task", ["describe", "arithmetic"])
def test_partings_are_measured_at_the_right_place(target, task):
    """The float32 model's two best tokens: their gap is what an independent forward says; another token is no tie."""
    rounded = Target(copy.deepcopy(target.model).bfloat16(), target.processor, target.layer_ids)
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample(task, 1)])
    alone = generate(target, batch, settings=Settings(max_new_tokens=8))[0].tokens
    ids = torch.cat([batch.input_ids, torch.tensor([alone[:5]])], dim=1)
    types = {
        k: torch.cat([v, torch.zeros(1, 5, dtype=v.dtype)], dim=1) for k, v in batch.vision_inputs.items() if k.startswith("mm")
    }
    with torch.no_grad():
        logits = target.model(input_ids=ids, **{**batch.vision_inputs, **types}).logits[0, -1]
        logits16 = rounded.model(input_ids=ids, **{**batch.vision_inputs, **types}).logits[0, -1].float()
    assert int(logits.argmax()) == alone[5]
    worst, second = int(logits.argmin()), int(logits.topk(2).indices[1])
    for other in (worst, second):
        position, gap, rounding = measure_parting(
            target=rounded, exact=target, batch=batch, alone=alone, drafted=[*alone[:5], other, 0]
        )
        assert position == 5
        assert gap == pytest.approx(float(logits[alone[5]] - logits[other]), abs=1e-3)
        assert rounding == pytest.approx(float((logits - logits16).abs().max()), rel=0.3)
    assert not Parting("", "", 5, float(logits.max() - logits.min()), rounding).is_tie


def test_float32_knows_no_ties():
    assert not Parting("", "", 0, 1e-6, 0.0).is_tie
    assert Parting("", "", 0, 0.05, 0.03).is_tie


@pytest.mark.parametrize(("gap", "code"), [(0.05, 0), (0.07, 1)])
def test_the_exit_code_says_whether_all_partings_are_ties(target, data, tmp_path, monkeypatch, gap, code):
    make_draft(target).save_pretrained(tmp_path / "draft")
    partings = [Parting("a", SHAPES[0].label, 3, 0.0, 0.03), Parting("b", SHAPES[1].label, 1, gap, 0.03)]
    monkeypatch.setattr(lossless, "compare_answers", lambda *_: [(9, partings)])
    argv = ["--target", str(data / "target"), "--draft", str(tmp_path / "draft"), "--json", str(tmp_path / "out.json")]
    assert run_cli(main, Config, "", argv=[*argv, "--benchmarks", str(data / "held_out.jsonl")]) == code
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["is_tie"] for row in written["partings"]] == [True, not code]
    assert list(written["benchmarks"][0]["differing"].values()) == [1, 1, 0]


def test_what_cannot_be_asked_is_counted_and_the_rest_compared(target, data, tmp_path, capsys):
    make_draft(target).save_pretrained(tmp_path / "draft")
    rows = [{"question": "How many?"}, {"question": "How <|im_start|>?"}, {"question": " "}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    argv = ["--target", str(data / "target"), "--draft", str(tmp_path / "draft"), "--json", str(tmp_path / "out.json")]
    argv += ["--max-new-tokens", "6", "--benchmarks", "nosuch", f"gsm8k={tmp_path / 'rows.jsonl'}"]
    assert run_cli(main, Config, "", argv=argv) == 0
    (row,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert (row["prompts"], row["skipped"]) == (1, {"empty question": 1, "role marker in text": 1})
    assert set(row["differing"].values()) == {0}
    said = capsys.readouterr().out
    assert "Left out: nosuch" in said
    assert "role marker in text" in said

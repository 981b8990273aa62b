"""The demo: its scenes are reproducible, its parts disjoint, its target sees, and what is trained on it drafts."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from vlm_eagle.config import DataConfig, DraftConfig, TrainConfig
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation_rows import read_conversations
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.stats import AcceptanceStats
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix, questions
from vlm_eagle.demo.build_target import TRAIN_SEEDS
from vlm_eagle.demo.data import BENCHMARK_START, HELD_OUT_START, TRAIN_START, DemoSizes, ensure_demo_data, write_jsonl
from vlm_eagle.demo.scenes import Scene, Thing, draw, random_scene
from vlm_eagle.demo.text_target import make_text_target
from vlm_eagle.demo.vision_eval import attributes, measure_vision
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.target.load import DEMO_TARGET, load_target
from vlm_eagle.training.setup import build_setup
from vlm_eagle.training.trainer import Trainer


@pytest.fixture(scope="module")
def demo_target():
    return load_target("demo", dtype=torch.float32)


def test_scenes_show_what_they_say():
    thing = Thing("red", "square", "large", "top left")
    picture = draw(Scene((thing,), (96, 96), (255, 255, 255), 1))
    assert picture.getpixel((16, 16)) == (214, 40, 40)
    assert picture.getpixel((80, 80)) == (255, 255, 255)
    assert picture.tobytes() == draw(Scene((thing,), (96, 96), (255, 255, 255), 1)).tobytes()


def test_samples_repeat_and_parts_are_disjoint():
    assert mix.sample("arithmetic", 5).messages == mix.sample("arithmetic", 5).messages
    starts = [BENCHMARK_START, HELD_OUT_START, TRAIN_START, TRAIN_SEEDS.start]
    assert all(later - earlier >= 50_000 for earlier, later in pairwise(starts))


def test_answers_state_the_truth():
    """Descriptions against the scene itself."""
    rng = random.Random(0)
    for _ in range(200):
        scene = random_scene(rng)
        answer = questions.describe(scene, rng).answer
        for thing in scene.things:
            assert all(word in answer for word in (thing.color, thing.shape, thing.size))
        found = Counter(attributes(answer))
        assert all(found[t.color] >= 1 for t in scene.things)


def test_attributes_are_found_in_both_languages():
    assert attributes("At the top left there is a small red ring.") == ["top left", "small", "red", "ring"]
    assert attributes("左上角有一个小的粉色三角形。") == ["左上角", "一", "小", "粉色", "三角形"]


@pytest.mark.slow
def test_the_shipped_target_sees(demo_target):
    """Held-out scenes; the record beside the weights says what was measured on more of them."""
    sight = measure_vision(demo_target, 24)
    for task in ("describe", "vqa", "chinese-image", "multi-image"):
        assert sight[task]["attributes_right"] > 0.9, (task, sight[task])
    recorded = json.loads((DEMO_TARGET / "eval.json").read_text())["held_out_answers"]
    assert min(recorded[task]["attributes_right"] for task in ("describe", "vqa", "chinese-image", "multi-image")) > 0.9


def test_the_shipped_target_is_small():
    assert sum(file.stat().st_size for file in DEMO_TARGET.iterdir()) < 20e6


@pytest.mark.slow
def test_demo_data_is_made_once(tmp_path):
    sizes = DemoSizes(train={"describe": 2, "arithmetic": 2}, held_out=1, max_new_tokens=120)
    ensure_demo_data(tmp_path, DEMO_TARGET, sizes, Console(quiet=True))
    first = (tmp_path / "train.jsonl").stat().st_mtime_ns
    ensure_demo_data(tmp_path, DEMO_TARGET, sizes, Console(quiet=True))
    assert (tmp_path / "train.jsonl").stat().st_mtime_ns == first
    rows = list(read_conversations(tmp_path / "train.jsonl"))
    assert [row.id for row in rows] == ["describe-200000", "describe-200001", "arithmetic-200000", "arithmetic-200001"]


@pytest.mark.slow
def test_text_target_writes_what_the_language_tower_writes(demo_target, tmp_path):
    make_text_target(DEMO_TARGET, tmp_path)
    text = load_target(str(tmp_path), dtype=torch.float32)
    assert not text.is_vision
    prompt = VisionCollator(text.processor, for_generation=True)([mix.sample("arithmetic", 1)])
    answers = [generate(target, prompt, settings=Settings(max_new_tokens=60))[0].tokens for target in (text, demo_target)]
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_training_makes_decoding_accept(demo_target, tmp_path):
    """The whole path on a handful of samples: a draft that has seen them drafts them. Any misalignment between training and
    decoding (rows, positions, mask, features, vocabulary) leaves the acceptance length near 1."""
    samples = [mix.sample(task, TRAIN_START + i) for i in range(6) for task in ("describe", "code")]
    write_jsonl(tmp_path / "train.jsonl", samples)
    config = TrainConfig(
        target="demo", out=str(tmp_path), target_dtype="float32", epochs=30, batch_size=6, eval_steps=1000, save_steps=1000,
        data=DataConfig(train=[str(tmp_path / "train.jsonl")], eval=[], num_workers=0),
        draft=DraftConfig(vocab_size=256, ttt_length=4, dtype="float32"),
    )  # fmt: skip
    accelerator = Accelerator(cpu=True)
    Trainer(config, build_setup(config, accelerator), accelerator, Console(quiet=True)).train()
    draft = Eagle3Draft.from_pretrained(tmp_path / "draft")
    collator, stats = VisionCollator(demo_target.processor, for_generation=True), AcceptanceStats()
    for sample in samples[:6]:
        stats += generate(demo_target, collator([sample]), draft, Settings(shape=TreeShape(4), max_new_tokens=80))[0].stats
    assert stats.acceptance_length > 2.5

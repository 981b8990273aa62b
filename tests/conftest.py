"""Small targets and drafts for all tests: real mechanisms, random weights, built in a second and never saved to disk."""

import atexit
import os
import shutil
import signal
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vlm-eagle-tests-")  # processes that tests start inherit it

import hypothesis
import pytest
import torch
from transformers import AutoProcessor, Qwen3Config, Qwen3ForCausalLM, Qwen3VLForConditionalGeneration

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.demo import mix
from vlm_eagle.demo.build_target import demo_config
from vlm_eagle.demo.data import write_jsonl
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.target.load import DEMO_TARGET
from vlm_eagle.target.target import Target

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it, and their children too
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
hypothesis.settings.register_profile("default", deadline=None)  # no example is too slow; `ci` has none either
torch.set_num_threads(1)  # tests run side by side (pytest-xdist); small models gain nothing from more


def pytest_collection_modifyitems(items):
    """Whoever asks for a browser is marked as such; what needs a GPU is skipped where there is none."""
    no_gpu = pytest.mark.skip(reason="no GPU here")
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(scope="session")
def processor():
    return AutoProcessor.from_pretrained(DEMO_TARGET)


@pytest.fixture(scope="session")
def target(processor):
    """A random Qwen3-VL whose weights are large enough that images, DeepStack and positions all matter."""
    config = demo_config(processor)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.head_dim = 64, 96, 32
    text.num_attention_heads, text.num_key_value_heads = 4, 2
    text.rope_parameters["mrope_section"] = [6, 5, 5]
    vision.hidden_size, vision.intermediate_size, vision.num_heads, vision.out_hidden_size = 32, 48, 2, 64
    text.initializer_range = vision.initializer_range = 0.15
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).float()
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    return Target(model, processor).freeze()


@pytest.fixture(scope="session")
def text_target(processor):
    """A random text-only Qwen3 with the same tokenizer."""
    ids = processor.tokenizer.convert_tokens_to_ids
    config = Qwen3Config(
        vocab_size=1280, hidden_size=64, intermediate_size=96, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, initializer_range=0.15,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0}, tie_word_embeddings=True,
        eos_token_id=ids("<|im_end|>"), pad_token_id=ids("<|endoftext|>"), bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(1)
    return Target(Qwen3ForCausalLM(config).float(), processor.tokenizer).freeze()


def make_draft(target: Target, draft_vocab_size: int = 400, seed: int = 0, scale: float = 3.0) -> Eagle3Draft:
    """A random draft for a target, with weights large enough that every input matters."""
    config = Eagle3Config.for_target(target.config, target.layer_ids, draft_vocab_size)
    torch.manual_seed(seed)
    counts = torch.randint(1, 1000, (config.vocab_size,))
    counts[list(target.eos_ids)] = 10_000
    draft = Eagle3Draft(config, DraftVocab.from_counts(counts, draft_vocab_size))
    with torch.no_grad():
        for parameter in draft.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return draft


def make_imitating_draft(target: Target) -> Eagle3Draft:
    """A draft that is sometimes right: its head is the target's own on the draft vocabulary and it passes the last aux hidden
    state on."""
    draft = make_draft(target, draft_vocab_size=1200, scale=1.0)
    d = target.config.hidden_size
    with torch.no_grad():
        draft.fc.weight.zero_()
        draft.fc.weight[:, 2 * d :] = torch.eye(d)
        draft.lm_head.weight.copy_(target.embed_tokens.weight[draft.target_ids])
    return draft


@pytest.fixture
def draft(target):
    return make_draft(target)


@pytest.fixture(scope="session")
def mixed_batch(processor):
    """One batch with text, one image, several images, and two turns."""
    tasks = [("arithmetic", 1), ("describe", 1), ("multi-image", 1), ("vqa", 2), ("chinese", 1)]
    return VisionCollator(processor)([mix.sample(task, 7, turns) for task, turns in tasks])


@pytest.fixture(scope="session")
def data(target, processor, tmp_path_factory):
    """A folder with a target, training and held-out data."""
    folder = tmp_path_factory.mktemp("run")
    target.model.save_pretrained(folder / "target")
    processor.save_pretrained(folder / "target")
    samples = [mix.sample(task, i) for i in range(3) for task in ("arithmetic", "describe", "vqa", "code")]
    write_jsonl(folder / "train.jsonl", samples)
    write_jsonl(folder / "held_out.jsonl", samples[:3])
    return folder


@pytest.fixture(scope="module")  # no longer: while it is open, asyncio.run cannot be called
def browser():
    """A Chromium that is installed; the copies that playwright would download are never used."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(BROWSERS)}); `make chromium` installs one on Debian")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()

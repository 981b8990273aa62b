"""A random Qwen2.5-VL: window attention in its tower, chunked M-RoPE, no DeepStack."""

import pytest
import torch
from conftest import make_draft
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation, Message, TextPart, VideoPart
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.target.load import DEMO_TARGET, load_target

TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "bos_token_id": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
}  # fmt: skip
TOWER = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, "patch_size": 14,
    "fullatt_block_indexes": [1], "window_size": 56, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
SHAPES = [TreeShape(5), TreeShape(8, 3, 3)]


@pytest.fixture(scope="module")
def qwen2_5(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("qwen2_5"), AutoTokenizer.from_pretrained(DEMO_TARGET)
    number = tokenizer.convert_tokens_to_ids
    words = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    special = {f"{name}_token_id": number(f"<|{word}|>") for name, word in words.items()}
    text = TEXT | {"vocab_size": len(tokenizer), "eos_token_id": number("<|im_end|>"), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=TOWER, **special)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)  # answers that are not one token for ever
    model.save_pretrained(folder)
    sizes = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    images = Qwen2VLImageProcessor(**sizes, min_pixels=4 * 784, max_pixels=64 * 784)
    template = (DEMO_TARGET / "chat_template.jinja").read_text()
    videos = Qwen2VLVideoProcessor(**sizes)
    Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=template).save_pretrained(folder)
    return load_target(str(folder))


@pytest.mark.parametrize("task", ["arithmetic", "describe", "multi-image"])
def test_greedy_is_what_transformers_writes(qwen2_5, task):
    batch = VisionCollator(qwen2_5.processor, for_generation=True)([mix.sample(task, 2)])
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **batch.vision_inputs}
    expected = qwen2_5.model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, batch.input_ids.shape[1] :].tolist()
    assert generate(qwen2_5, batch, settings=Settings(max_new_tokens=16))[0].tokens == expected
    for shape in SHAPES:
        assert generate(qwen2_5, batch, make_draft(qwen2_5), Settings(shape=shape, max_new_tokens=16))[0].tokens == expected


def test_a_ragged_batch(qwen2_5):
    collate = VisionCollator(qwen2_5.processor, for_generation=True)
    samples = [mix.sample(task, 3) for task in ("describe", "arithmetic", "multi-image")]
    settings = Settings(shape=TreeShape(8, 3, 3), max_new_tokens=10)
    together = generate(qwen2_5, collate(samples), make_draft(qwen2_5), settings)
    for answer, sample in zip(together, samples, strict=True):
        assert answer.tokens == generate(qwen2_5, collate([sample]), settings=settings)[0].tokens


def test_features_and_token_layout(qwen2_5):
    collator = VisionCollator(qwen2_5.processor)
    sample = mix.sample("multi-image", 4)
    batch = collator([sample])
    assert torch.equal(collator.token_layout(sample)["input_ids"], batch.input_ids)
    features = qwen2_5.features(batch, visual=True)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **batch.vision_inputs}
    states = qwen2_5.model(**inputs, output_hidden_states=True).hidden_states
    expected = torch.cat([states[i] for i in qwen2_5.layer_ids], dim=-1)
    torch.testing.assert_close(features.aux_hidden, expected, atol=1e-4, rtol=1e-4)
    assert len(features.visual) == int((batch.input_ids == qwen2_5.model.config.image_token_id).sum()) > 0


def test_videos_are_refused(qwen2_5, tmp_path):
    talk = Conversation("v", (Message("user", (VideoPart(tmp_path / "a.mp4"), TextPart("What happens?"))),))
    with pytest.raises(BadRow, match="video not supported"):
        VisionCollator(qwen2_5.processor, for_generation=True).encode(talk)

"""Batches of text, images and video: every sample becomes what it would become alone."""

from dataclasses import replace

import pytest
import torch
from chats import PICTURE, about, supervised_text

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import VideoPart
from vlm_eagle.demo import mix


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    files = tuple(folder / f"{i}.png" for i in range(5))
    for i, file in enumerate(files):
        PICTURE.rotate(20 * i).save(file)
    return files


@pytest.fixture(scope="module")
def samples(frames):
    """Text, one image, several images of different sizes, frames, two turns with two languages."""
    made = [
        mix.sample("arithmetic", 7),
        mix.sample("describe", 7),
        about(PICTURE, PICTURE.resize((160, 128)), PICTURE.resize((50, 170))),
        about(VideoPart(frames, 4.0)),
        about(VideoPart(frames[:2]), PICTURE),
        mix.sample("chinese-image", 7, 2),
    ]
    return [replace(sample, id=str(i)) for i, sample in enumerate(made)]


@pytest.fixture(scope="module")
def collator(processor):
    return VisionCollator(processor)


@pytest.mark.parametrize("for_generation", [False, True])
def test_a_sample_does_not_depend_on_its_neighbours(processor, samples, for_generation):
    collator = VisionCollator(processor, for_generation=for_generation)
    batch, alone = collator(samples), [collator([sample]) for sample in samples]
    length = batch.input_ids.shape[1]
    padding = {"input_ids": collator.pad_id, "attention_mask": 0, "loss_mask": 0, "mm_token_type_ids": 0}
    for name, value in padding.items():
        read = lambda b, name=name: b.vision_inputs[name] if name in b.vision_inputs else getattr(b, name)
        for i, single in enumerate(alone):
            own = read(single)[0]
            filler = own.new_full((length - len(own),), value)
            assert torch.equal(read(batch)[i], torch.cat([own, filler])), (name, i)
    for name in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
        parts = [single.vision_inputs[name] for single in alone if name in single.vision_inputs]
        assert torch.equal(batch.vision_inputs[name], torch.cat(parts)), name
    assert len(batch.vision_inputs["image_grid_thw"]) == 1 + 3 + 1 + 1
    assert len(batch.vision_inputs["video_grid_thw"]) == 2
    assert (batch.ids, batch.skipped, len(batch)) == (tuple("012345"), {}, 6)


def test_text_needs_no_pixels(collator, samples):
    assert set(collator(samples[:1]).vision_inputs) <= {"mm_token_type_ids"}


def test_an_image_becomes_what_the_processor_alone_makes_of_it(collator, processor):
    text = (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n"
        "<|im_start|>assistant\nA kettle.<|im_end|>\n"
    )
    expected = processor(text=[text], images=[PICTURE], return_tensors="pt")
    encoded = collator.encode(about(PICTURE))
    assert expected["image_grid_thw"].tolist() == [[1, 4, 6]]
    assert all(torch.equal(encoded[name], expected[name]) for name in expected)


def test_a_large_image_is_resized_once_to_the_processors_size(collator, processor):
    large = PICTURE.resize((1000, 700))
    size = processor.image_processor(large, return_tensors="pt")["image_grid_thw"][0, 1:] * 16
    resized = processor.image_processor(large.resize(size.flip(0).tolist()), return_tensors="pt")
    encoded = collator.encode(about(large))
    assert size.tolist() == [416, 608]
    assert torch.equal(encoded["pixel_values"], resized["pixel_values"])


def test_a_video_has_as_many_pads_as_its_grid_and_its_times(collator, processor, frames):
    encoded = collator.encode(about(VideoPart(frames, 4.0)))
    t, h, w = encoded["video_grid_thw"][0].tolist()
    pads = (encoded["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")).sum()
    assert (t, int(pads), len(encoded["pixel_values_videos"])) == (3, t * h * w // 4, t * h * w)
    text = processor.tokenizer.decode(encoded["input_ids"][0])
    assert all(f"<{seconds} seconds>" in text for seconds in ("0.1", "0.6", "1.1"))  # the middles of pairs at 4 fps


def test_a_video_file(collator, processor, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = *PICTURE.size, "yuv420p"
        pictures = [av.VideoFrame.from_image(PICTURE.point(lambda v, i=i: v * i // 8)) for i in range(8)]
        for packet in [packet for picture in [*pictures, None] for packet in stream.encode(picture)]:
            container.mux(packet)
    encoded = collator.encode(about(VideoPart(tmp_path / "clip.mp4")))
    t, h, w = encoded["video_grid_thw"][0].tolist()
    assert (t, len(encoded["pixel_values_videos"])) == (2, t * h * w)  # two seconds at two frames a second, in pairs
    text = processor.tokenizer.decode(encoded["input_ids"][0])
    assert all(f"<{seconds} seconds>" in text for seconds in ("0.2", "1.2"))  # the middles of pairs at 2 fps
    brightness = encoded["pixel_values_videos"].reshape(t, -1).mean(1)
    assert brightness[1] > brightness[0] + 0.2
    assert supervised_text(processor.tokenizer, encoded["input_ids"][0], encoded["loss_mask"][0]) == "A kettle.<|im_end|>"


def test_prompts_for_generation(processor, samples):
    batch = VisionCollator(processor, for_generation=True)(samples)
    rows = zip(batch.input_ids, batch.attention_mask.bool(), strict=True)
    texts = [processor.tokenizer.decode(ids[real]) for ids, real in rows]
    assert all(text.endswith("<|im_end|>\n<|im_start|>assistant\n") for text in texts)
    assert [text.count("<|im_start|>assistant\n") for text in texts] == [1, 1, 1, 1, 1, 2]  # earlier answers stay
    assert not any("A kettle." in text for text in texts)
    assert batch.loss_mask[:-1].sum() == 0
    assert batch.attention_mask[:, 0].all(), "padding stands on the right"


def test_llm_only_skips_media(processor, samples):
    batch = VisionCollator(processor, llm_only=True)(samples)
    assert (batch.ids, batch.skipped) == (("0",), {"has media": 5})
    assert batch.vision_inputs == {}


def test_a_text_only_tokenizer(processor, collator, samples):
    batch, usual = VisionCollator(processor.tokenizer)(samples), collator(samples[:1])
    assert (batch.ids, batch.skipped, batch.vision_inputs) == (("0",), {"has media": 5}, {})
    assert all(torch.equal(getattr(batch, f), getattr(usual, f)) for f in ("input_ids", "attention_mask", "loss_mask"))

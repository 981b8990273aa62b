"""What headers tell about images and videos, against what the processor really makes of their pixels."""

import io
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from chats import about, chat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features
from transformers import Qwen3VLVideoProcessor

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import BadRow, Conversation, ImagePart, Message, TextPart, VideoPart
from vlm_eagle.data.images import open_image, upright_size
from vlm_eagle.data.media import pixel_budget, read_headers, set_pixel_budget, video_patches
from vlm_eagle.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else []))
WIDE = 10**8  # pixels of a whole video: what qwen_vl_utils leaves is left
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
edges = st.integers(1, 700)
budgets = st.tuples(st.integers(1, 40_000), st.integers(1024, 300_000)).map(lambda b: (min(b), max(b)))


def collator_for(processor, min_pixels=None, max_pixels=None, max_length=100_000, video_pixels=262_144) -> VisionCollator:
    processor = deepcopy(processor)
    set_pixel_budget(processor, min_pixels, max_pixels)
    processor.video_processor.size = {"shortest_edge": 4096, "longest_edge": video_pixels}
    return VisionCollator(processor, max_length=max_length)


def outcome(make, conversation: Conversation):
    """The token ids and mask, or the reason why there are none."""
    try:
        encoded = make(conversation)
    except BadRow as error:
        return error.reason
    return encoded["input_ids"][0].tolist(), encoded["loss_mask"][0].tolist()


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


@few
@given(sizes=st.lists(st.tuples(edges, edges), min_size=1, max_size=3), budget=budgets)
@example(sizes=[(9400, 47)], budget=(4096, 262_144))  # within 200:1, but not when its height is rounded down
@example(sizes=[(47, 9400)], budget=(4096, 20_000_000))
@example(sizes=[(10_000, 100)], budget=(1024, 4096))  # the second resizing gives other sizes than the first
@example(sizes=[(600, 3)], budget=(1, 1024))
@example(sizes=[(1, 1), (700, 700)], budget=(4096, 262_144))
def test_images_of_any_size_in_any_budget(processor, sizes, budget):
    collator = collator_for(processor, *budget)
    conversation = about(*(blank(*size) for size in sizes))
    assert outcome(collator.token_layout, conversation) == outcome(collator.encode, conversation)


@pytest.mark.slow
@few
@given(
    size=st.tuples(edges, edges), frames=st.integers(1, 9), fps=st.sampled_from([0.3, 1.0, 2.0, 7.5]), budget=budgets,
    video_pixels=st.sampled_from([100_000, 262_144, WIDE]),
)  # fmt: skip
@example(size=(60, 40), frames=5, fps=2.0, budget=(4096, 262_144), video_pixels=262_144)
@example(size=(9400, 47), frames=2, fps=2.0, budget=(4096, 20_000_000), video_pixels=262_144)
@example(
    size=(64, 64), frames=1, fps=2.0, budget=(786_000, 900_000), video_pixels=WIDE
)  # qwen_vl_utils stretches its own limit
def test_frame_lists_of_any_size_in_any_budget(processor, size, frames, fps, budget, video_pixels):
    collator = collator_for(processor, *budget, video_pixels=video_pixels)
    conversation = about(VideoPart(tuple(blank(*size) for _ in range(frames)), fps), blank(50, 70))
    assert outcome(collator.token_layout, conversation) == outcome(collator.encode, conversation)


@pytest.mark.skipif(not hasattr(Qwen3VLVideoProcessor, "get_num_of_video_patches"), reason="transformers before 5.17")
def test_older_versions_make_as_many_patches_of_a_video(processor):
    """transformers before 5.17 cannot be asked."""
    videos = processor.video_processor
    names = ("temporal_patch_size", "patch_size", "merge_size", "size")
    older = SimpleNamespace(**{name: getattr(videos, name) for name in names})
    for frames, height, width in [(2, 64, 64), (6, 480, 640), (10, 100, 1900), (400, 333, 257)]:
        theirs = videos.get_num_of_video_patches(frames, height, width, {})
        assert video_patches(older, frames, height, width) == video_patches(videos, frames, height, width) == theirs


def test_the_processor_is_asked_for_patches_where_it_can_be():
    asked = SimpleNamespace(get_num_of_video_patches=lambda *video: video)
    assert video_patches(asked, 4, 64, 96) == (4, 64, 96, {})


def test_long_videos_share_a_budget(processor, monkeypatch):
    for module in ("qwen_vl_utils.vision_process", "vlm_eagle.data.media"):
        monkeypatch.setattr(f"{module}.MODEL_SEQ_LEN", 400)  # instead of hundreds of frames
    collator = collator_for(processor, 4096, 500_000, video_pixels=WIDE)
    tokens = []
    for frames in (2, 6):
        conversation = about(VideoPart((blank(600, 600),) * frames))
        assert outcome(collator.token_layout, conversation) == outcome(collator.encode, conversation)
        ids = collator.token_layout(conversation)["input_ids"]
        tokens.append(int((ids == collator.media_ids[1]).sum()) / frames)
    assert tokens[1] < tokens[0]


def test_images_and_videos_in_several_turns(processor):
    media = (ImagePart(blank(90, 60)), VideoPart((blank(64, 64),) * 3), ImagePart(blank(33, 200)))
    first = Message("user", (media[1], TextPart("And"), media[0], TextPart("?")))
    second = Message("user", (media[2], media[1], TextPart("Well?")))
    answer = chat("x", "Yes.").messages[1]
    conversation = Conversation("c", (first, answer, second, answer))
    collator = collator_for(processor)
    ids, mask = outcome(collator.token_layout, conversation)
    assert (ids, mask) == outcome(collator.encode, conversation)
    assert sum(mask) == 2 * len(processor.tokenizer.encode("Yes.<|im_end|>"))
    for limit in range(1, len(ids) + 2, 7):  # also where it has to be cut, or dropped
        short = collator_for(processor, max_length=limit)
        assert outcome(short.token_layout, conversation) == outcome(short.encode, conversation)


def test_a_smaller_budget_costs_fewer_tokens(processor):
    conversation = about(blank(512, 512))
    lengths = [
        len(outcome(collator_for(processor, None, most).token_layout, conversation)[0]) for most in (262_144, 65_536, 1024)
    ]
    assert lengths[0] - lengths[1] == (262_144 - 65_536) // 1024
    assert lengths[1] - lengths[2] == (65_536 - 1024) // 1024


def test_frames_of_different_sizes_are_refused_both_ways(processor):
    conversation = about(VideoPart((blank(300, 100), blank(100, 300))))
    collator = collator_for(processor)
    assert outcome(collator.token_layout, conversation) == outcome(collator.encode, conversation) == "video broken"


def test_a_video_file(processor, tmp_path):
    with av.open(tmp_path / "clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=4, width=96, height=64)
        frames = [av.VideoFrame.from_image(blank(96, 64)) for _ in range(11)]
        for packet in [packet for frame in [*frames, None] for packet in stream.encode(frame)]:
            container.mux(packet)
    conversation, collator = about(VideoPart(tmp_path / "clip.mp4")), collator_for(processor)
    assert outcome(collator.token_layout, conversation) == outcome(collator.encode, conversation)
    (before,) = read_headers(conversation)
    (tmp_path / "clip.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes() + b"\0")
    assert read_headers(conversation) != (before,)


def test_bad_media_have_the_same_reason(processor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    collator = collator_for(processor)
    for part in (tmp_path / "none.png", tmp_path / "broken.png", blank(500, 2), *map(VideoPart, (
        tmp_path / "none.mp4", tmp_path / "broken.mp4", (tmp_path / "none.png",),
    ))):  # fmt: skip
        reason = outcome(collator.token_layout, about(part))
        assert isinstance(reason, str)
        assert reason == outcome(collator.encode, about(part))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", FORMATS)
def test_turned_pictures(tmp_path, image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "picture"
    blank(60, 40).save(file, image_format, exif=exif)
    assert upright_size(file, "") == open_image(file, "").size == ((40, 60) if orientation > 4 else (60, 40))


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "PPM", "ICO", "TGA", "JPEG2000"])
def test_other_formats(tmp_path, image_format):
    file = tmp_path / f"picture.{image_format.lower()}"
    blank(48, 32).save(file, image_format)
    assert upright_size(file, "") == open_image(file, "").size


def png_turned_by(**options) -> bytes:
    stream = io.BytesIO()
    blank(60, 40).save(stream, "PNG", **options)
    return stream.getvalue()


def test_a_png_turned_by_metadata_behind_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png_turned_by(exif=exif)
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    end = data.index(b"IEND") - 4
    (tmp_path / "late.png").write_bytes(data[:at] + data[at + len(chunk) : end] + chunk + data[end:])
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="8"/>')
    (tmp_path / "xmp.png").write_bytes(png_turned_by(pnginfo=notes))
    broken = chunk[:-1] + bytes([chunk[-1] ^ 1])  # Pillow forgives a wrong checksum behind the pixels
    (tmp_path / "broken.png").write_bytes(data[:at] + data[at + len(chunk) : end] + broken + data[end:])
    (tmp_path / "endless.png").write_bytes(data[:end])  # nor does the last chunk have to be there
    for name in ("late.png", "xmp.png", "broken.png", "endless.png"):
        assert upright_size(tmp_path / name, "") == open_image(tmp_path / name, "").size == (40, 60)


def test_no_pixel_is_decoded(processor, tmp_path, monkeypatch):
    files: list[Path] = []
    for image_format in FORMATS:
        files.append(tmp_path / f"picture.{image_format}")
        blank(60, 40).save(files[-1], image_format)
    expected = outcome(collator_for(processor).encode, about(*files))

    def refuse(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    for kind in {type(Image.open(file)) for file in files} | {Image.Image}:
        monkeypatch.setattr(kind, "load", refuse)
    assert outcome(collator_for(processor).token_layout, about(*files)) == expected


@pytest.mark.parametrize("budget", [(0, 5000), (9000, 5000), (1, 1000), (None, 0), (300_000, None)])
def test_a_budget_that_nothing_meets(processor, budget):
    with pytest.raises(UserError, match="max_pixels"):
        collator_for(processor, *budget)


def test_a_budget_is_for_images(processor):
    with pytest.raises(UserError, match="reads text only"):
        set_pixel_budget(processor.tokenizer, 1, 5000)
    assert pixel_budget(processor.tokenizer) is None
    small = deepcopy(processor)
    set_pixel_budget(small, max_pixels=2048)  # below the processor's own lower bound
    assert pixel_budget(small) == (2048, 2048)
    assert torch.equal(torch.tensor(pixel_budget(processor)), torch.tensor([4096, 262_144]))

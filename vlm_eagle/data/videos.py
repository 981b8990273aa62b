"""Video files to frames, by PyAV, which comes with qwen_vl_utils (whose readers need torchcodec, decord or old torchvision)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from qwen_vl_utils.vision_process import smart_nframes


@dataclass(frozen=True)
class Clip:
    """A video as the processor will see it.

    Attributes:
        sizes: (width, height) of each frame.
        fps: their rate, in frames per second.
    """

    sizes: tuple[tuple[int, int], ...]
    fps: float


def read_frames(file: Path, fps: float = 2.0) -> tuple[list[Image.Image], float]:
    """Frames evenly spread over the clip, about `fps` per second within Qwen's limits, and their true rate. Frames are counted
    first, because not every container states their number."""
    import av  # here: it is slow to start with, and few rows hold videos

    chosen, clip = _choose(file, fps)
    with av.open(str(file)) as container:
        frames = [frame.to_image() for i, frame in enumerate(container.decode(video=0)) if i in chosen]
    return frames, clip.fps


def read_clip(file: Path, fps: float = 2.0) -> Clip:
    """The sizes of what `read_frames` returns; no frame is converted to a picture."""
    return _choose(file, fps)[1]


def _choose(file: Path, fps: float) -> tuple[set[int], Clip]:
    import av

    with av.open(str(file)) as container:
        stated = container.streams.video[0].average_rate
        if stated is None:
            raise ValueError("the file does not say how many frames a second has")
        rate = float(stated)
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    total = len(sizes)
    count = smart_nframes({"fps": fps}, total, rate)
    chosen = set(torch.linspace(0, total - 1, count).round().int().tolist())
    return chosen, Clip(tuple(sizes[i] for i in sorted(chosen)), count / total * rate)

"""Video files to frames, by PyAV, which comes with qwen_vl_utils (whose readers need torchcodec, decord or old torchvision)."""

from pathlib import Path

import av
import torch
from PIL import Image
from qwen_vl_utils.vision_process import smart_nframes


def read_frames(file: Path, fps: float = 2.0) -> tuple[list[Image.Image], float]:
    """Frames evenly spread over the clip, about `fps` per second within Qwen's limits, and their true rate.

    Frames are counted first, as not every container says how many it holds, and only the chosen ones are kept.
    """
    with av.open(str(file)) as container:
        rate = float(container.streams.video[0].average_rate)
        total = sum(1 for _ in container.decode(video=0))
    count = smart_nframes({"fps": fps}, total, rate)
    chosen = set(torch.linspace(0, total - 1, count).round().int().tolist())
    with av.open(str(file)) as container:
        frames = [frame.to_image() for i, frame in enumerate(container.decode(video=0)) if i in chosen]
    return frames, count / total * rate

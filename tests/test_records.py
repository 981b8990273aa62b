"""The two records move as a whole."""

from dataclasses import fields

import pytest
import torch

from vlm_eagle.records import Batch, TargetFeatures

IDS, MASK = torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool)
RECORDS = [
    Batch(IDS, IDS, MASK, {"pixel_values": torch.zeros(4, 2), "image_grid_thw": IDS}, ("a",), {"too long": 1}),
    TargetFeatures(IDS, IDS, MASK, torch.zeros(1, 3, 6), torch.zeros(3, 2), torch.zeros(1, 2), MASK, ("a",), {"too long": 1}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_tensor_goes_to_the_device(record):
    moved = record.to("meta")
    for field in fields(record):
        old, new = getattr(record, field.name), getattr(moved, field.name)
        if isinstance(old, torch.Tensor):
            assert (new.device.type, new.shape) == ("meta", old.shape), field.name
        elif field.name == "vision_inputs":
            assert old.keys() == new.keys()
            assert {t.device.type for t in new.values()} == {"meta"}
        else:
            assert new == old
    assert len(moved) == 1

"""What no measurement can be made of is refused before anything is loaded."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))  # its files are scripts that import each other by name
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "dev"))

from ablation import AblationConfig
from acc_length import AccLengthConfig
from overhead import OverheadConfig
from speedup import SpeedupConfig
from train_speed import TrainSpeedConfig

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import in_words


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (AccLengthConfig, {"draft": []}), (AccLengthConfig, {"draft_tokens": []}), (AccLengthConfig, {"concurrency": 0}),
        (AccLengthConfig, {"max_new_tokens": 0}), (SpeedupConfig, {"max_new_tokens": 0}),
        (SpeedupConfig, {"question_begin": -1}), (SpeedupConfig, {"repeats": 0}), (OverheadConfig, {"shapes": ["qwen9"]}),
        (OverheadConfig, {"cycles": 0}), (OverheadConfig, {"context": 0}), (OverheadConfig, {"concurrency": 0}),
        (TrainSpeedConfig, {"lengths": [64, 0]}), (TrainSpeedConfig, {"batch_size": 0}), (TrainSpeedConfig, {"repeats": 0}),
        (TrainSpeedConfig, {"ttt_length": 0}), (TrainSpeedConfig, {"fractions": [0.0]}), (AblationConfig, {"seeds": []}),
        (AblationConfig, {"limit": 0}), (AblationConfig, {"arms": ["SGD"]}),
    ],
)  # fmt: skip
def test_refused(kind, wrong):
    with pytest.raises(UserError):
        kind(**wrong)


def test_reasons_in_words():
    assert in_words({"too long": 1, "bad JSON": 3}) == "3 x bad JSON, 1 x too long"

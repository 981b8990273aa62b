"""What no measurement can be made of is refused before anything is loaded."""

import pytest

from scripts.dev.ablation import AblationConfig
from scripts.dev.overhead import OverheadConfig
from scripts.dev.train_speed import TrainSpeedConfig
from vlm_eagle.commands import score, speedup
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.benchmarks import in_words


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (score.Config, {"draft": []}), (score.Config, {"draft_tokens": []}), (score.Config, {"concurrency": 0}),
        (score.Config, {"max_new_tokens": 0}), (speedup.Config, {"max_new_tokens": 0}),
        (speedup.Config, {"question_begin": -1}), (speedup.Config, {"repeats": 0}), (OverheadConfig, {"shapes": ["qwen9"]}),
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

"""The timed methods write the same answers and count them alike."""

import pytest
from conftest import make_draft

from vlm_eagle.commands import speedup
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.demo import mix
from vlm_eagle.evaluation.lookup import look_up
from vlm_eagle.evaluation.methods import our_loop, prompt_lookup, transformers_generate


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [("describe",), ("describe", "arithmetic")])
def test_all_methods_agree(target, tasks):
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample(task, 2) for task in tasks])
    expected = [answer.tokens for answer in generate(target, batch, settings=Settings(max_new_tokens=16))]
    methods = [
        our_loop(target, None),
        our_loop(target, make_draft(target), TreeShape(6, 2, 4)),
        prompt_lookup(target),
        transformers_generate(target),
    ]
    for method in methods:
        for _ in range(2):  # a method that keeps its buffers gives the same again
            timed = method(batch, [0] * len(tasks), 16)
            assert timed.tokens == expected
            assert 0 < timed.first < timed.total
            assert timed.decoded == sum(map(len, expected)) - len(expected)


def test_end_tokens_end_answers_everywhere(target):
    batch = VisionCollator(target.processor, for_generation=True)([mix.sample(task, 2) for task in ("code", "arithmetic")])
    end = generate(target, batch, settings=Settings(max_new_tokens=12))[0].tokens[5]
    target.model.generation_config.eos_token_id = [end]
    try:
        ours = our_loop(target, None)(batch, [0, 0], 12).tokens
        theirs = transformers_generate(target)(batch, [0, 0], 12).tokens
    finally:
        target.model.generation_config.eos_token_id = target.config.eos_token_id
    assert ours == theirs
    assert len(ours[0]) <= 6


def test_look_up_copies_what_followed_the_longest_latest_match():
    assert look_up([1, 2, 3, 9, 1, 2, 3], 2, 3) == [9, 1]
    assert look_up([1, 2, 8, 5, 2, 7, 5, 2], 1, 3) == [7]  # "5 2" is longer than "2"; of two equal ones the later
    assert look_up([1, 2, 3], 4, 3) == []
    assert look_up([4, 4, 4], 5, 2) == [4]


def test_eagles_names_mean_ours():
    config = speedup.Config(total_token=60, depth=5, top_k=10)
    assert (config.draft_tokens, config.num_steps, config.topk) == (60, 6, 10)
    with pytest.raises(ValueError, match="Give either"):
        speedup.Config(tree=["auto"], depth=3)
    with pytest.raises(ValueError, match="question_end"):
        speedup.Config(question_begin=4, question_end=4)

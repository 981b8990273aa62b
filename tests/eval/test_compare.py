"""A comparison sees a change that is there, and none that is not."""

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_eagle.cli import run_cli
from vlm_eagle.commands import score, speedup
from vlm_eagle.evaluation.result_schema import SCHEMA, TurnResult
from vlm_eagle.evaluation.scores.compare import significant
from vlm_eagle.evaluation.scores.names import DRAFTED, PLAIN
from vlm_eagle.evaluation.scores.sums import acceptance_result, benchmark_result

HEAD = {
    "draft": "d", "target": "t", "num_draft_tokens": 4, "num_speculative_tokens": 3, "topk": 1, "num_steps": 3,
    "sampling": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}, "concurrency": 1, "image_inputs": "token",
    "thinking": False,
}  # fmt: skip


def row(id_, committed):
    return {
        "id": id_, "question": f"q {id_}", "images": [], "language": "en", "modality": "text", "category": None, "turn": 0,
        "output_token_ids": [1] * (1 + sum(committed)), "committed": committed, "accepted": [c - 1 for c in committed],
        "num_forwards": len(committed), "num_committed": sum(committed),
    }  # fmt: skip


def result(rng, chance, *, n=40, names=("a", "b"), **head):
    """A draft whose every token is right with this chance."""
    benchmarks = []
    for name in names:
        rows = [TurnResult(**row(f"{name}{i}", [int(min(rng.geometric(1 - chance), 4)) for _ in range(30)])) for i in range(n)]
        benchmarks.append(benchmark_result(name, rows, {}, depth=3, max_new_tokens=99))
    return asdict(acceptance_result({**HEAD, **head}, benchmarks))


@pytest.fixture
def judge(tmp_path, capsys):
    """Compares two lists of settings; (exit code, what was said)."""

    def run(before, after, script=score, **more):
        for name, own in (("before", before), ("after", after)):
            (tmp_path / name).write_text(
                json.dumps({"schema": SCHEMA, "run": {}, "settings": own, **{k: v[name] for k, v in more.items()}})
            )
        config = score.Config if script is score else speedup.Config
        argv = ["--compare", str(tmp_path / "before"), str(tmp_path / "after")]
        code = run_cli(script.main, config, "", argv=argv)
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def test_a_worse_draft_fails_and_a_better_one_does_not(judge):
    rng = np.random.default_rng(0)
    good, bad = result(rng, 0.7), result(rng, 0.6)
    assert judge([good], [bad])[0] == 1
    code, said = judge([bad], [good])
    assert (code, "3 better" in said) == (0, True)


def test_equal_results_are_equal(judge):
    same = result(np.random.default_rng(0), 0.7)
    code, said = judge([same], [same])
    assert code == 0
    assert "0 of 3 lines significantly worse, 0 better" in said


@pytest.mark.slow
def test_noise_seldom_fails(judge):
    """Two runs of one and the same chance: of 25 comparisons of 3 lines, at 2.5 % in all, few may call anything worse."""
    rng = np.random.default_rng(3)
    assert sum(judge([result(rng, 0.6, n=12)], [result(rng, 0.6, n=12)])[0] for _ in range(25)) <= 3


def test_a_handful_of_prompts_proves_nothing(judge):
    rng = np.random.default_rng(0)
    assert judge([result(rng, 0.9, n=2)], [result(rng, 0.1, n=2)])[0] == 0


def test_drafts_are_compared_by_tree_and_sampling(judge):
    rng = np.random.default_rng(1)
    hot = {"sampling": {**HEAD["sampling"], "temperature": 1.0}}
    before = [result(rng, 0.7, draft="old"), result(rng, 0.4, draft="old", **hot)]
    code, said = judge(before, [{**s, "draft": "new"} for s in before[::-1]])
    assert code == 0
    assert "0 of 6 lines significantly worse, 0 better" in said
    code, said = judge(before, [{**before[0], "num_draft_tokens": 5, "num_steps": 4}])
    assert code == 2
    assert "Only in the first file" in said


@pytest.mark.slow
def test_two_drafts_in_a_file_keep_their_names(judge):
    rng = np.random.default_rng(1)
    good, bad = result(rng, 0.7, draft="good"), result(rng, 0.5, draft="bad")
    assert judge([good, bad], [bad, good])[0] == 0
    assert judge([good, bad], [{**bad, "draft": "good"}, bad])[0] == 1


def test_only_common_prompts_count(judge):
    rng = np.random.default_rng(2)
    before = result(rng, 0.7)
    after = copy.deepcopy(before)
    rows = after["benchmarks"][0]["prompts"]
    for changed in rows[:10]:  # other questions, answered badly: they are no regression
        changed.update(row(changed["id"], [1] * 60), question="another")
    code, said = judge([before], [after])
    assert code == 0
    assert "a: 30 prompts compared; 10 are in one file only, or ask something else." in said


def test_what_cannot_be_compared_is_said(judge, tmp_path):
    some = result(np.random.default_rng(0), 0.7)
    assert "targets differ (t, u)" in judge([some], [{**some, "target": "u"}])[1]
    longer = copy.deepcopy(some)
    for benchmark in longer["benchmarks"]:
        benchmark["max_new_tokens"] = 7
    code, said = judge([some], [longer])
    assert (code, "max_new_tokens 99 and 7" in said) == (2, True)
    (tmp_path / "old").write_text(json.dumps({"settings": []}))
    config = score.Config
    for files in (["old", "old"], ["old"], ["none", "none"]):
        assert run_cli(score.main, config, "", argv=["--compare", *(str(tmp_path / f) for f in files)]) == 2


json_values = st.none() | st.booleans() | st.integers(-2, 99) | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([{}])


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_compared_or_refused(judge, data):
    """Any value of a good file replaced by anything: an exit code, never a traceback."""
    rng = np.random.default_rng(0)
    whole = {"settings": [result(rng, 0.7, n=2)], "speed": [speed(2.0, rng, 2)]}
    at = broken = copy.deepcopy(whole)
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.integers(0, 4)) == 0:
            break
        at = at[key]
    if isinstance(at, dict) and data.draw(st.booleans()):
        del at[key]
    else:
        at[key] = data.draw(json_values)
    for one, other in ((whole, broken), (broken, whole)):
        speeds = {"before": one.get("speed", []), "after": other.get("speed", [])}
        code, said = judge(one.get("settings"), other.get("settings"), speed=speeds)
        assert code in (0, 1) or "error: " in said


def test_titles_say_which_drafts(judge):
    rng = np.random.default_rng(1)
    some = result(rng, 0.7, draft="x/run/draft")
    assert " run/draft, 4 draft tokens" in " " + judge([some], [some])[1]
    assert "x/run/draft -> y/run/draft, 4 draft tokens" in judge([some], [{**some, "draft": "y/run/draft"}])[1]
    server = {**some, "draft": None, "engine": {"kind": "vllm", "model": "me/target"}}
    assert "me/target, 4 draft tokens" in judge([server], [server])[1]


def test_losing_losslessness_fails(judge):
    before = result(np.random.default_rng(0), 0.7)
    before["totals"].update(answers=80, equal_to_target_alone=80)
    after = copy.deepcopy(before)
    after["totals"]["equal_to_target_alone"] = 79
    assert judge([before], [before])[0] == 0
    code, said = judge([before], [after])
    assert (code, "are not any more" in said) == (1, True)


def speed(gain, rng, n=40):
    batches = []
    for i in range(n):
        slow = float(rng.gamma(3))
        for method, seconds in ((PLAIN, slow), (DRAFTED, slow / gain * float(rng.normal(1, 0.05)))):
            about = {"turns": [[f"a{i}", 0]], "method": method, "repeat": 0, "first": 0.0}
            batches.append({**about, "seconds": seconds, "tokens": [50]})
    rows = [{"name": "a", "max_new_tokens": 9, "batches": batches}]
    return {**HEAD, "baselines": {"end_to_end": PLAIN}, "methods": {}, "benchmarks": rows}


def test_speedups_are_compared_by_batch(judge):
    rng = np.random.default_rng(0)
    before, after = speed(2.0, rng), speed(1.8, rng)
    some = result(rng, 0.7)
    code, said = judge([some], [some], speedup, speed={"before": [before], "after": [after]})
    assert code == 1
    assert "1 of 4 lines significantly worse" in said
    assert judge([some], [some], speedup, speed={"before": [after], "after": [before]})[0] == 0


def test_speedups_are_paired_by_concurrency_and_batch(judge):
    rng = np.random.default_rng(0)
    alone, four = speed(2.0, rng), speed(1.2, rng) | {"concurrency": 4}
    some = result(rng, 0.7)
    before, after = [alone, four], [copy.deepcopy(four), copy.deepcopy(alone)]
    for timed in after:
        timed["benchmarks"][0]["batches"] = timed["benchmarks"][0]["batches"][20:]  # ten of the forty are gone
    code, said = judge([some], [some], speedup, speed={"before": before, "after": after})
    assert (code, "0 of 5 lines significantly worse, 0 better" in said) == (0, True)
    assert said.count("│ a │ 30 │") == 2


def test_thinking_and_not_thinking_are_not_compared(judge):
    some = result(np.random.default_rng(0), 0.7)
    assert judge([some], [{**some, "thinking": True}])[0] == 2


def test_many_lines_need_stronger_proof():
    assert significant([0.02]) == [True]
    assert significant([0.02, 0.5]) == [False, False]
    assert significant([0.012, 0.02]) == [True, True]
    assert significant([0.5, 0.001, 0.013]) == [False, True, False]

"""Speeds are tokens over seconds of the same prompts, and the answers behind them are those that acc_length.py scores."""

import evaluations
import pytest
from conftest import make_imitating_draft
from evaluations import Evaluation, benchmarks, figures, prompt

from vlm_eagle.commands import speedup
from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.decoding.sampling import Sampling
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.methods import Timed, our_loop
from vlm_eagle.evaluation.scores.intervals import paired_batches
from vlm_eagle.evaluation.scores.journal import EvaluationJournal
from vlm_eagle.evaluation.scores.models import processes
from vlm_eagle.evaluation.scores.names import DRAFTED, GENERATE, PLAIN
from vlm_eagle.evaluation.timing import benchmark as benchmark_module
from vlm_eagle.evaluation.timing import timing_round as speed_runs
from vlm_eagle.evaluation.timing.benchmark import TimedWorkload, Timing, groups_of, run_benchmark
from vlm_eagle.evaluation.timing.speeds import speed_result

SMALL = ("--trees", "3,2,6", "--max-new-tokens", "7", "--baselines", "[]")


@pytest.fixture(scope="module")
def folder(target, tmp_path_factory):
    return evaluations.save_pair(target, tmp_path_factory.mktemp("pair"))


@pytest.fixture
def evaluate(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(speed_runs, "CYCLES", 2)
    return Evaluation(folder, tmp_path, monkeypatch)


def timing(benchmark, ids, method, seconds, first, lengths, forwards=None, repeat=0):
    """Answers of 9s; a forward commits as many tokens as fit evenly."""
    tokens = [[9] * n for n in lengths]
    committed = [[(n - 1) // f] * f for n, f in zip(lengths, forwards, strict=True)] if forwards else []
    accepted = [[c - 1 for c in row] for row in committed]
    return Timing(benchmark, tuple((i, 0) for i in ids), method, repeat, Timed(tokens, first, seconds, committed, accepted))


LAPS = [
    timing("one", "ab", "plain", 4.0, 1.0, (9, 5), (8, 4)), timing("one", "ab", "drafted", 2.0, 0.5, (9, 5), (4, 2)),
    timing("one", "c", "plain", 6.0, 1.0, (11,), (10,)), timing("one", "c", "drafted", 1.0, 0.5, (11,), (2,)),
    timing("two", "d", "plain", 3.0, 1.0, (7,), (6,)), timing("two", "d", "drafted", 3.0, 1.0, (7,), (6,)),
]  # fmt: skip
HEAD = {"sampling": {"temperature": 0.0}, "concurrency": 2}
NAMES = {"plain": PLAIN, "drafted": DRAFTED}


def test_sums_are_divided_not_ratios_averaged():
    speed = speed_result(HEAD, LAPS, NAMES, greedy=True)
    one, two = speed.benchmarks
    assert one.methods[PLAIN].end_to_end_tokens_per_second == 25 / 10
    assert one.methods[DRAFTED].decode_tokens_per_second == (12 + 10) / (1.5 + 0.5)
    assert one.speedup == pytest.approx((25 / 3) / (25 / 10))
    assert one.decode_speedup == pytest.approx((22 / 2) / (22 / 8))
    assert one.acceptance_length == one.methods[DRAFTED].acceptance_length == 22 / 8
    assert (two.speedup, two.interval, two.acceptance_length) == (1.0, None, 1.0)
    assert speed.speedup == pytest.approx((32 / 6) / (32 / 13))
    assert speed.acceptance_length == 28 / 14
    low, high = one.interval
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(6.0)


def test_equal_answers_are_counted_by_batch_and_only_where_they_must_be():
    changed = timing("one", "ab", "drafted", 2.0, 0.5, (9, 5), (4, 2))
    changed.timed.tokens[1][4] = 8
    speed = speed_result(HEAD, [LAPS[0], changed, *LAPS[2:]], NAMES, greedy=True)
    assert [b.methods[DRAFTED].equal_to_target_alone for b in speed.benchmarks] == [2, 1]
    assert speed.methods[DRAFTED].answers == speed.methods[PLAIN].equal_to_target_alone == 4
    sampled = speed_result(HEAD, LAPS, NAMES, greedy=False)
    assert sampled.methods[DRAFTED].equal_to_target_alone is None


def test_repeats_are_one_unit():
    again = [timing("one", "c", "plain", 2.0, 1.0, (11,), (10,), 1), timing("one", "c", "drafted", 3.0, 0.5, (11,), (2,), 1)]
    (one, _) = speed_result(HEAD, LAPS + again, NAMES, greedy=True).benchmarks
    pairs = paired_batches(one.batches, PLAIN)
    assert sorted(pairs.values()) == [(14, 2.0, 14, 4.0), (22, 4.0, 22, 8.0)]
    assert paired_batches(one.batches, PLAIN, decode=True)[(("c", 0),)] == (20, 3.0, 20, 6.0)
    assert one.methods[DRAFTED].equal_to_target_alone == 4


def test_speedups_are_against_the_faster_way_to_do_without_a_draft():
    """Of both ways and of all prompts, end to end and in decoding apart."""
    fast = [timing(plain.benchmark, [i for i, _ in plain.turns], "generate", plain.timed.total - 0.5, plain.timed.first - 0.8,
                [len(t) for t in plain.timed.tokens]) for plain in LAPS[::2]]  # fmt: skip
    speed = speed_result(HEAD, LAPS + fast, {**NAMES, "generate": GENERATE}, greedy=True)
    assert speed.baselines == {"end_to_end": GENERATE, "decode": PLAIN}
    assert speed.speedup == pytest.approx((32 / 6) / (32 / 11.5))
    assert speed.decode_speedup == pytest.approx((28 / 4) / (28 / 10))
    assert speed.benchmarks[0].speedup == pytest.approx((25 / 3) / (25 / 9))
    assert speed_result(HEAD, LAPS, NAMES, greedy=True).baselines == {"end_to_end": PLAIN, "decode": PLAIN}


def test_without_a_baseline_there_is_no_speedup():
    speed = speed_result(HEAD, LAPS[1::2], {"drafted": DRAFTED}, greedy=True)
    assert speed.speedup is None
    assert speed.acceptance_length == 2.0


def test_every_method_meets_the_same_prompts_in_a_changing_order(target, tmp_path):
    seen = []

    def method(name):
        def timed(batch, seeds, max_new_tokens):
            seen.append((name, batch.ids, tuple(seeds), max_new_tokens, tuple(map(tuple, batch.input_ids.tolist()))))
            return Timed([[1] for _ in seeds], 0.1, 0.2)

        return timed

    workload = TimedWorkload(target, our_loop(target, None), seed=5, llm_only=False, thinking=False)
    turns = [turn for b in benchmarks() for turn in workload.turns(b, b.prompts, 6)]
    groups = groups_of(turns, 2)
    assert [len(group) for group in groups] == [2, 2, 1, 2, 2, 1]
    timings = run_benchmark(
        {"a": method("a"), "b": method("b")}, workload, groups, 2, lambda: None, EvaluationJournal(tmp_path / "x.json"), ""
    )
    warm, timed = seen[:4], seen[4:]
    assert {len(ids) for _, ids, *_ in warm} == {1, 2}
    assert len(timed) == len(timings) == 2 * 2 * len(groups)
    assert sorted(row[1:] for row in timed if row[0] == "a") == sorted(row[1:] for row in timed if row[0] == "b")
    assert len({row[2] for row in timed}) == len(groups)
    starts = [name for name, *_ in timed[::2]]
    assert starts == ["a", "b"] * 3 + ["b", "a"] * 3


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_later_turns_follow_one_answer(target, temperature):
    """Whatever is timed is asked the same; at temperature 0 it is the target's own answer."""
    sampling = Sampling(temperature)
    draft = make_imitating_draft(target)
    asked = [prompt("code", 2, "And the other way round?")]
    workloads = [
        TimedWorkload(target, our_loop(target, draft, TreeShape(4), sampling), seed=1, llm_only=False, thinking=False),
        TimedWorkload(target, our_loop(target, None, sampling=sampling), seed=1, llm_only=False, thinking=False),
    ]
    first, second = ([turn.conversation for turn in c.turns(Benchmark("b", asked), asked, 6)] for c in workloads)
    assert len(first) == 2
    assert first[1].messages[-1].content[0].text == "And the other way round?"
    assert temperature or first == second
    tokens = workloads[0].answer(workloads[0].batch(workloads[0].turns(Benchmark("b", asked), asked, 6)[:1]), [0], 6).tokens[0]
    assert temperature or first[1].messages[-2].content[0].text == target.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.slow
def test_answers_are_those_of_acc_length(evaluate):
    options = ("--samplings", "greedy", "sampled", "--seed", "3", "--image-inputs", "visual_embeds")
    code, timed = evaluate(*SMALL, *options, "--concurrency", "1", "3", script=speedup)
    assert code == 0
    _, scored = evaluate("--trees", "3,2,6", "--max-new-tokens", "7", *options)
    found = figures(timed)
    first_turns = lambda rows: {key: row for key, row in rows.items() if key[2] == 0}
    for i, concurrency in enumerate((1, 3)):
        greedy, sampled = found[2 * i : 2 * i + 2]
        assert greedy == figures(scored)[0], concurrency
        assert first_turns(sampled) == first_turns(figures(scored)[1]), concurrency
    for setting, speed in zip(timed["settings"], timed["speed"], strict=True):
        assert setting["totals"]["acceptance_length"] == speed["acceptance_length"]
        assert setting["totals"]["interval"] == speed["acceptance_interval"]
        model = speed["speed_model"]
        assert model["seen_speedup"] == speed["decode_speedup"]
        parts = sum(model[name] for name in ("r_verify", "r_extend", "r_draft", "r_overhead"))
        assert model["predicted_speedup"] == pytest.approx(speed["acceptance_length"] / parts)
        assert model["cycle_seconds"] == pytest.approx(parts * model["step_seconds"])
    rows = timed["speed"][0]["methods"]
    assert rows[DRAFTED]["equal_to_target_alone"] == rows[DRAFTED]["answers"] == 10


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on_group_by_group(evaluate, monkeypatch):
    run, count = benchmark_module._run, []

    def counted(method, workload, group):
        count.append([(turn.prompt.id, turn.number) for turn in group])
        if len(count) == limit:
            raise KeyboardInterrupt
        return run(method, workload, group)

    monkeypatch.setattr(benchmark_module, "_run", counted)
    limit, few = 8, [Benchmark("words", [prompt("code", i) for i in range(5)])]
    assert evaluate(*SMALL, on=few, script=speedup) == (130, None)  # 2 to get warm, 2 x 2 timed, half of the third
    count.clear()
    limit = 0
    code, result = evaluate(*SMALL, on=few, script=speedup)
    assert (code, len(count)) == (0, 2 + 2 * 3)
    assert not {("code-0", 0), ("code-1", 0)} & {turn for group in count for turn in group}
    count.clear()
    _, whole = evaluate(*SMALL, on=few, script=speedup)
    assert len(count) == 2 + 2 * 5
    assert figures(result) == figures(whole)
    assert result["speed"][0]["methods"][PLAIN]["answers"] == 5
    assert not list(evaluate.out.glob("*journal*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", ["--samplings sampled", "--trees chain4", "--image-inputs visual_embeds", "--max-new-tokens 5"]
)
def test_a_benchmark_of_other_settings_is_not_finished(evaluate, monkeypatch, other):
    run, count, few = benchmark_module._run, [], [Benchmark("words", [prompt("code", 1), prompt("code", 2)])]

    def counted(method, workload, group):
        count.append(group)
        if len(count) == 5:  # 2 to get warm, 2 timed
            raise KeyboardInterrupt
        return run(method, workload, group)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark_module, "_run", counted)
        assert evaluate(*SMALL, on=few, script=speedup)[0] == 130
        assert evaluate(*SMALL, *other.split(), on=few, script=speedup)[0] == 0
    assert len(count) == 5 + 2 + 2 * 2


def test_a_tree_found_by_measuring_comes_with_its_forecasts(evaluate, monkeypatch):
    from vlm_eagle.decoding.auto import Forecast

    forecasts = [Forecast(TreeShape(1), 1.0, 1.0, 1.0), Forecast(TreeShape(5, 2, 3), 2.0, 3.0, 0.7)]
    monkeypatch.setattr(speed_runs, "choose_shape", lambda *_, **__: forecasts)
    words = [Benchmark("words", [prompt("code", 1)])]
    code, result = evaluate("--tree", "auto", "--max-new-tokens", "5", on=words, script=speedup)
    (speed,) = result["speed"]
    assert (code, speed["num_draft_tokens"], speed["topk"], speed["num_steps"]) == (0, 5, 2, 3)
    assert [row["num_draft_tokens"] for row in speed["forecasts"]] == [1, 5]
    assert set(speed["methods"]) == {PLAIN, DRAFTED, GENERATE, "prompt lookup"}


def test_baselines_alone(evaluate):
    words = [Benchmark("words", [prompt("code", 1)])]
    code, result = evaluate("--mode", "baseline", "--max-new-tokens", "5", on=words, script=speedup)
    assert (code, result["settings"], result["speed"][0]["draft"]) == (0, [], None)


@pytest.mark.parametrize(
    ("options", "demo", "other"),
    [
        ({}, (0, 8), (0, 30)),
        ({"question_begin": 4}, (4, 12), (4, 30)),
        ({"question_begin": 2, "question_end": 20}, (2, 20), (2, 20)),
    ],
)
def test_prompts_are_chosen_by_number(monkeypatch, options, demo, other):
    all_of = {"code": list(range(64)), "words": list(range(30))}
    load = lambda names, limit=None, console=None: [Benchmark(name, all_of[name][:limit]) for name in names]
    monkeypatch.setattr(speedup, "load_benchmarks", load)
    config = speedup.Config(benchmarks=["words", "code"], **options)
    words, code = speedup._benchmarks(config, False, processes(), None)
    assert (words.prompts, code.prompts) == (list(range(*other)), list(range(*demo)))


def test_bad_choices_are_refused():
    for wrong in ({"baselines": ["vllm"]}, {"draft": ["a", "a"]}, {"trees": ["5,4,16"], "depth": 3}, {"concurrency": [0]}):
        with pytest.raises(UserError):
            speedup.Config(**wrong)
    for tree in ("5,4", "chain", "tree4"):
        with pytest.raises(UserError, match="is not a tree"):
            _ = speedup.Config(trees=[tree]).shapes
    assert speedup.Config(trees=["5,4,16", "chain8"]).shapes == [TreeShape(16, 4, 5), TreeShape(8)]

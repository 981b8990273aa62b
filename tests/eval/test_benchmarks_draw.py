"""What is drawn from a benchmark depends on the seed and the content alone: not on the order or form of the file."""

import random
from itertools import pairwise

import pytest
from benchmark_files import CEVAL_FIELDS, asked, ceval_row, embedded, write, write_csv, write_jsonl, write_parquet

from vlm_eagle.evaluation.benchmarks import load_benchmark


@pytest.fixture
def load(tmp_path):
    """Loads benchmarks with pictures under the test's folder."""
    return lambda name, *rest, **more: load_benchmark(name, *rest, images=tmp_path / "pictures", **more)


@pytest.fixture
def gsm8k(tmp_path):
    """A GSM8K of 300 rows, in the order of `shuffled`."""

    def make(shuffled=None):
        rows = [{"question": f"Ann has {i} apples. How many?", "answer": f"#### {i}"} for i in range(300)]
        if shuffled is not None:
            random.Random(shuffled).shuffle(rows)
        file = tmp_path / f"gsm8k-{shuffled}.jsonl"
        write_jsonl(file, rows)
        return file

    return make


def test_a_draw_is_reproducible_and_does_not_depend_on_the_order_of_the_file(load, gsm8k):
    first = asked(load("gsm8k-100", source=gsm8k()))
    assert len(first) == 100
    assert first == asked(load("gsm8k-100", source=gsm8k()))
    assert first == asked(load("gsm8k-100", source=gsm8k(1)))
    assert first != asked(load("gsm8k-100", source=gsm8k(), seed=1))
    assert asked(load("gsm8k", source=gsm8k())) == asked(load("gsm8k", source=gsm8k(2)))
    assert asked(load("gsm8k", 100, source=gsm8k(3))) == first


def test_a_smaller_draw_is_part_of_a_larger_one(load, gsm8k):
    file = gsm8k()
    draws = [set(asked(load("gsm8k", limit, source=file))) for limit in (1, 10, 100, None)]
    assert [len(draw) for draw in draws] == [1, 10, 100, 300]
    assert all(small < large for small, large in pairwise(draws))


def test_a_draw_is_a_fair_one(load, gsm8k):
    file, times = gsm8k(), dict.fromkeys(range(300), 0)
    for seed in range(60):
        for _, text in asked(load("gsm8k", 30, source=file, seed=seed)):
            times[int(text.split()[2])] += 1
    chi_square = sum((n - 6) ** 2 / 5.4 for n in times.values())  # 60 draws of 30 in 300: mean 6, variance 5.4
    assert 299 - 5 * 24.5 < chi_square < 299 + 5 * 24.5


def test_ceval_104_takes_two_of_each_subject(load, tmp_path):
    for number in range(52):
        rows = [ceval_row(i, f"subject{number}") for i in range(20 + number)]
        write_csv(tmp_path / "ceval" / "val" / f"subject{number}_val.csv", CEVAL_FIELDS, rows)
    benchmark = load("ceval-104", source=tmp_path / "ceval")
    subjects = [prompt.category for prompt in benchmark.prompts]
    assert len(subjects) == 104
    assert {subjects.count(f"subject{number}") for number in range(52)} == {2}
    assert len(load("ceval-104", 10, source=tmp_path / "ceval").prompts) == 10
    again = load("ceval-104", source=tmp_path / "ceval", seed=3)
    assert asked(again) != asked(benchmark)


def test_a_limit_cuts_the_draw_of_all_subjects_fairly(load, tmp_path):
    rows = [{"id": i, "question": f"题{i}", **dict.fromkeys("ABCD", "甲"), "subject": f"s{i % 5}"} for i in range(50)]
    drawn = []
    for order in (rows, rows[::-1], rows[25:] + rows[:25]):
        write_jsonl(tmp_path / "rows.jsonl", order)
        drawn.append(asked(load("ceval-104", 4, source=tmp_path / "rows.jsonl")))
    assert len(drawn[0]) == 4
    assert drawn[0] == drawn[1] == drawn[2]
    assert set(drawn[0]) < set(asked(load("ceval-104", source=tmp_path / "rows.jsonl")))


def test_prompts_come_in_the_order_of_their_numbers(load, tmp_path):
    assert [p.id for p in load("mt-bench", source=write("mt-bench", tmp_path / "copy")).prompts] == ["9", "81", "101"]


def test_pictures_decide_between_rows_that_are_alike_in_all_else(load, tmp_path):
    rows = [{"image": embedded(i), "query": "What is it?", "label": ["x"], "human_or_machine": 0} for i in range(4)]
    drawn = []
    for order in (rows, rows[::-1]):
        write_parquet(tmp_path / "copy" / "data" / "test-0.parquet", order)
        drawn.append(asked(load("chartqa", 2, source=tmp_path / "copy")))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 2


def test_rows_that_occur_twice_are_told_apart(load, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "Twice?"}, {"question": "Once?"}, {"question": "Twice?"}])
    ids = [prompt.id for prompt in load("gsm8k", source=tmp_path / "rows.jsonl").prompts]
    assert len(set(ids)) == 3
    assert any(id_.endswith("#2") for id_ in ids)


def test_only_what_is_drawn_is_written(load, tmp_path):
    write("chartqa", tmp_path / "copy")
    load("chartqa", 1, source=tmp_path / "copy")
    assert len(list((tmp_path / "pictures").iterdir())) == 1

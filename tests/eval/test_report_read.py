"""What the report reads, refuses and remarks on."""

import copy
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from report_results import invent, results, setting, speed, write

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.figures import figures, over_answer
from vlm_eagle.evaluation.reporting.labels import labels, shared_facts
from vlm_eagle.evaluation.reporting.losses import breakdowns
from vlm_eagle.evaluation.reporting.read import read_results
from vlm_eagle.evaluation.reporting.records import Kind
from vlm_eagle.evaluation.reporting.samples import collect
from vlm_eagle.evaluation.scores import results as results_module


@pytest.fixture
def file(tmp_path):
    return invent(tmp_path, prompts=8)


def changed(file: Path, change) -> Path:
    value = json.loads(file.read_text())
    change(value)
    return write(file.with_name("changed.json"), value)


def test_a_whole_file(file):
    found = read_results([file])
    raw = json.loads(file.read_text())
    assert [s.kind.num_draft_tokens for s in found.settings] == [4, 8]
    assert found.notes == []
    assert [s.totals.tokens for s in found.settings] == [s["totals"]["tokens"] for s in raw["settings"]]
    assert found.settings[0].kind.sampling == "greedy"
    (first, *_), (row, *_) = found.settings[0].benchmarks[0].answers, raw["settings"][0]["benchmarks"][0]["prompts"]
    assert (list(first.pieces), list(first.committed), list(first.accepted)) == (
        row["pieces"],
        row["committed"],
        row["accepted"],
    )
    assert [s.decode.value for s in found.speeds] == [pytest.approx(1.8), pytest.approx(2.2)]
    assert [s.whole.value for s in found.speeds] == [pytest.approx(1.5), pytest.approx(1.9)]
    assert [s.predicted for s in found.speeds] == [pytest.approx(2.05), pytest.approx(2.45)]
    assert ("Command", "acc_length.py --draft-tokens 4") in found.runs[0][1]


def test_what_results_py_writes_is_read_whole(tmp_path, file):
    """Files in the form of `scores/results.py`, made by it: sums, intervals, breakdowns, and a server's rows."""
    raw = json.loads(file.read_text())["settings"][1]
    rows = {b["name"]: [{**row, "num_committed": sum(row["committed"])} for row in b["prompts"]] for b in raw["benchmarks"]}
    head = {key: raw[key] for key in ("draft", "target", "num_draft_tokens", "topk", "num_steps", "sampling", "concurrency")}
    head |= {"image_inputs": "token", "thinking": False}
    benchmarks = [
        results_module.benchmark_result(name, own, {"too long": 2}, depth=7, max_new_tokens=80) for name, own in rows.items()
    ]
    ours = results_module.setting_result(head, benchmarks)
    ours["totals"] |= {"answers": 8, "equal_to_target_alone": 7}
    served = [
        {"id": "a", "output_token_ids": None, "num_committed": 9, "num_forwards": 3, "accepted_at": [3, 2, 1], "text": "x",
         "language": "en", "modality": "text", "category": None, "turn": 0, "question": "q", "images": []},
        {"id": "b", "output_token_ids": [5, 6, 7], "num_committed": 2, "num_forwards": 1, "accepted_at": [1, 0, 0], "text": "y",
         "language": "en", "modality": "text", "category": None, "turn": 0, "question": "q", "images": []},
    ]  # fmt: skip
    engine = {
        "engine": {"kind": "vllm", "version": "1", "model": "m", "url": "u"},
        "num_draft_tokens": 4,
        "topk": 1,
        "num_steps": 3,
    }
    server = results_module.setting_result(
        engine, [results_module.benchmark_result("vqa", served, {}, depth=3, max_new_tokens=80)]
    )
    written = results_module.document({}, [ours, server])
    found = read_results([write(tmp_path / "written.json", written)])
    assert found.notes == []
    mine, theirs = found.settings
    assert list(mine.totals.interval) == ours["totals"]["interval"]
    assert mine.totals.equal == (7, 8)
    assert theirs.kind.engine == "vllm 1"
    assert theirs.kind.draft is None
    assert (theirs.totals.tokens, theirs.totals.forwards) == (11, 4)
    stretches = {s["from"]: s["acceptance_length"] for s in ours["breakdowns"]["answer_position"]}
    points = over_answer([mine], ["mine"]).series[0].points
    assert [p.value for p in points if p] == pytest.approx(list(stretches.values()))
    for point in (p for rows in breakdowns([mine]).values() for row in rows for p in row.points):
        assert point.low is None or point.low <= point.value <= point.high
    assert {row.name: row.points[0].value for row in breakdowns([mine])["Modality"]} == {
        name: pytest.approx(row["acceptance_length"]) for name, row in ours["breakdowns"]["modality"].items()
    }


def test_acc_length_counts_for_a_setting_that_both_measured(tmp_path, file):
    timed = json.loads(file.read_text())
    counted = copy.deepcopy(timed)
    del counted["speed"], counted["settings"][1], counted["settings"][0]["concurrency"]
    timed["settings"][0] |= {"thinking": False, "image_inputs": "token"}  # an older file does not say these
    found = read_results([write(tmp_path / "acc.json", counted), write(tmp_path / "speed.json", timed)])
    assert [(s.file.name, s.kind.num_draft_tokens) for s in found.settings] == [("acc.json", 4), ("speed.json", 8)]
    assert len(found.speeds) == 2
    assert any("what speedup.py counted" in note for note in found.notes)


def test_files_of_today_and_yesterday_are_read_together(tmp_path, file):
    """As acc_length.py and speedup.py wrote them before there was a schema."""
    old = json.loads(file.read_text())
    for column in old["settings"]:
        for key in ("draft", "target", "concurrency"):
            del column[key]
        for benchmark in [column["totals"], *column["benchmarks"]]:
            del benchmark["interval"]
        for benchmark in column["benchmarks"]:
            for row in benchmark["prompts"]:
                for key in (
                    "pieces",
                    "committed",
                    "accepted",
                    "question",
                    "images",
                    "language",
                    "modality",
                    "turn",
                    "category",
                ):
                    del row[key]
    config = {"target": "demo", "draft": "drafts/one", "temperature": 0.0, "top_k": None, "sample_top_k": 0}
    acceptance = write(tmp_path / "old.json", {"run": {"config": config}, "settings": old["settings"]})
    timing = {
        "concurrency": 1, "shape": "tree (steps 5, topk 4) of 16 draft tokens (vLLM: num_speculative_tokens 15)",
        "methods": speed(16, 2.0)["methods"], "speed_model": {"predicted_speedup": 2.2, "seen_speedup": 2.0},
    }  # fmt: skip
    found = read_results([acceptance, write(tmp_path / "speed.json", {"run": {"config": config}, "settings": [timing]})])
    assert found.settings[0].kind.draft == "drafts/one"
    assert found.settings[0].totals.interval is None
    kind = found.speeds[0].kind
    assert (kind.num_draft_tokens, kind.topk, kind.num_steps, kind.sampling) == (16, 4, 5, "greedy")
    assert collect(found.settings, 100) == ([], 0)  # no token texts
    assert {c.key for c in figures(found, ["a", "b"])} == {"by-benchmark", "by-position", "by-position-given", "tree-size"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "expected an object"),
        ("{}", "no result of"),
        ('{"settings": [{"lr": 1}]}', "no result of"),
        ('{"schema": "vlm_eagle.eval/2", "settings": [{"benchmarks": []}]}', "schema 'vlm_eagle.eval/2'"),
        ('{"schema": "vlm_eagle.eval/1"}', "no setting was measured"),
        ('{"settings": [{"benchmarks": 3}]}', "settings[0].benchmarks is 3, expected a list"),
        ('{"settings": [{"benchmarks": [], "totals": {"tokens": 1}}]}', "settings[0].totals has no forwards"),
        (
            '{"settings": [{"benchmarks": [], "totals": {"tokens": -1, "forwards": 1}}]}',
            "tokens is -1, expected a whole number",
        ),
    ],
)
def test_other_files_are_refused_with_the_place(tmp_path, content, said):
    file = tmp_path / "some.json"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        read_results([file])
    assert said in str(error.value)
    assert "some.json" in str(error.value)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        read_results([tmp_path / "missing.json"])
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="no JSON"):
        read_results([tmp_path / "latin.json"])


def test_sums_that_do_not_add_up_are_remarked(file):
    def more(value):
        value["settings"][0]["benchmarks"][0]["tokens"] += 1

    (note,) = read_results([changed(file, more)]).notes
    assert "settings[0].benchmarks[0]" in note
    assert "add up" in note


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row["pieces"].pop(),
        lambda row: row["committed"].append(1),
        lambda row: row["accepted"].append(0),
        lambda row: (row["committed"].append(1), row["accepted"].append(1)),
        lambda row: row.update(accepted=[n + 1 for n in row["committed"]]),
        lambda row: row.update(accepted=[0] * len(row["committed"])),
    ],
)
def test_a_sample_that_contradicts_itself_is_not_shown(file, change):
    before, count = collect(read_results([file]).settings[:1], 100)

    def both(value):
        del value["settings"][1:]
        change(next(row for row in value["settings"][0]["benchmarks"][0]["prompts"] if max(row["committed"]) > 2))

    found = read_results([changed(file, both)])
    assert any("1 of 2 samples are not shown" in note for note in found.notes)
    assert collect(found.settings, 100)[1] == count - 1 == len(before) - 1


def test_without_accepted_every_forward_ends_with_a_bonus_token(file):
    def drop(value):
        for row in (row for s in value["settings"] for b in s["benchmarks"] for row in b["prompts"]):
            del row["accepted"]

    answer = read_results([changed(file, drop)]).settings[0].benchmarks[0].answers[0]
    assert answer.accepted == tuple(n - 1 for n in answer.committed)


def test_numbers_that_are_not_finite_count_as_missing(file):
    def spoil(value):
        value["settings"][0]["totals"]["interval"] = [float("nan"), 10**400]
        value["speed"][0]["speed_model"]["predicted_speedup"] = float("inf")

    found = read_results([changed(file, spoil)])
    assert found.settings[0].totals.interval is None
    assert found.speeds[0].predicted is None


def test_labels_say_what_differs_and_nothing_else():
    chain = {"num_draft_tokens": 4, "topk": 1, "num_steps": 3, "target": "t", "sampling": "greedy"}
    files = [Path("a/x.json"), Path("a/y.json")]
    one, two = Kind(draft="d/one", **chain), Kind(draft="d/two", **chain)
    assert labels([one, two], files) == ["one, chain of 4 (vLLM: 3)", "two, chain of 4 (vLLM: 3)"]
    assert shared_facts([one, two]) == {"Target": "t", "Draft tokens": "chain of 4 (vLLM: 3)", "Sampling": "greedy"}
    assert labels([one, one], files) == ["chain of 4 (vLLM: 3), x", "chain of 4 (vLLM: 3), y"]
    assert labels([one, one], files[:1] * 2) == ["chain of 4 (vLLM: 3), x, no. 1", "chain of 4 (vLLM: 3), x, no. 2"]
    assert labels([Kind(draft="a/draft"), Kind(draft="b/draft")], files) == ["a/draft", "b/draft"]
    assert labels([Kind()], files[:1]) == ["unknown tree"]
    tree = Kind(num_draft_tokens=16, topk=4, num_steps=5)
    assert labels([tree], files[:1]) == ["tree of 16 (vLLM: 15; 5 steps, topk 4)"]


def test_samples_are_taken_evenly(tmp_path):
    rows = {name: [] for name in ("many", "few")}
    one = {"output_token_ids": [1, 2], "pieces": ["a", "b"], "committed": [1], "accepted": [1], "num_forwards": 1, "turn": 0}
    for name, count in (("many", 90), ("few", 3)):
        rows[name] = [{"id": f"{name}-{i}", **copy.deepcopy(one)} for i in range(count)]
    found = read_results([write(tmp_path / "r.json", results([setting(rows, 3)]))])
    chosen, count = collect(found.settings, 20)
    assert count == 93
    assert [sample.key[0] for sample in chosen].count("few") == 3
    many = [int(sample.key[1].removeprefix("many-")) for sample in chosen if sample.key[0] == "many"]
    assert len(many) == 17 == len(set(many))
    assert max(many) > 80 > 10 > min(many)  # spread over the file
    assert len(collect(found.settings, 500)[0]) == 93
    assert collect(found.settings, 0)[0] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    """Any value of a good file replaced by anything: records or a UserError, never another exception."""
    folder = tmp_path_factory.mktemp("damaged")
    value = json.loads(invent(folder, prompts=4, images=False, length=4).read_text())
    at, steps = value, data.draw(st.integers(1, 9))
    for _ in range(steps):
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or _ == steps - 1:
            break
        at = at[key]
    at[key] = data.draw(json_values)
    try:
        found = read_results([write(folder / "damaged.json", value)])
    except UserError as error:
        said = str(error)
    else:
        said = "damaged.json"
        names = [str(i) for i in range(len(found.settings))]
        figures(found, names)
        collect(found.settings, 10)
    assert "damaged.json" in said

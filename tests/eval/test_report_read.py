"""What the report reads, refuses and remarks on."""

import copy
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from report_results import invent, results, setting, write

from vlm_eagle.errors import UserError
from vlm_eagle.evaluation.reporting.figures import over_answer
from vlm_eagle.evaluation.reporting.inputs import read_inputs
from vlm_eagle.evaluation.reporting.labels import labels, shared_facts
from vlm_eagle.evaluation.reporting.page import render
from vlm_eagle.evaluation.reporting.samples import collect
from vlm_eagle.evaluation.result_schema import DecodingSetup, Results, TurnResult, to_json
from vlm_eagle.evaluation.scores.sums import acceptance_result, benchmark_result


@pytest.fixture
def file(tmp_path):
    return invent(tmp_path, prompts=8)


def changed(file: Path, change) -> Path:
    value = json.loads(file.read_text())
    change(value)
    return write(file.with_name("changed.json"), value)


def test_a_whole_file(file):
    found = read_inputs([file])
    raw = json.loads(file.read_text())
    assert [s.num_draft_tokens for s in found.settings] == [4, 8]
    assert found.notes == []
    assert [s.totals.tokens for s in found.settings] == [s["totals"]["tokens"] for s in raw["settings"]]
    (first, *_), (row, *_) = found.settings[0].benchmarks[0].prompts, raw["settings"][0]["benchmarks"][0]["prompts"]
    assert (first.pieces, first.committed, first.accepted) == (row["pieces"], row["committed"], row["accepted"])
    assert [s.decode_speedup for s in found.speeds] == [pytest.approx(1.8), pytest.approx(2.2)]
    assert [s.speedup for s in found.speeds] == [pytest.approx(1.5), pytest.approx(1.9)]
    assert [s.speed_model.predicted_speedup for s in found.speeds] == [pytest.approx(2.05), pytest.approx(2.45)]
    assert ("Command", "vlm-eagle score --draft-tokens 4") in found.runs[0][1]


def test_what_is_written_is_read_whole(tmp_path, file):
    """Sums, intervals, breakdowns, and a server's turns."""
    raw = json.loads(file.read_text())["settings"][1]
    turns = {b["name"]: [TurnResult(**row) for row in b["prompts"]] for b in raw["benchmarks"]}
    head = {key: raw[key] for key in ("draft", "target", "num_draft_tokens", "topk", "num_steps", "sampling", "concurrency")}
    head |= {"image_inputs": "token", "thinking": False}
    benchmarks = [benchmark_result(name, own, {"too long": 2}, depth=7, max_new_tokens=80) for name, own in turns.items()]
    ours = acceptance_result(head, benchmarks)
    ours.totals.answers, ours.totals.equal_to_target_alone = 8, 7
    about = {"language": "en", "modality": "text", "turn": 0, "question": "q", "images": []}
    served = [
        TurnResult(id="a", num_committed=9, num_forwards=3, accepted_at=[3, 2, 1], text="x", **about),
        TurnResult(
            id="b", num_committed=2, num_forwards=1, accepted_at=[1, 0, 0], output_token_ids=[5, 6, 7], text="y", **about
        ),
    ]
    engine = {"engine": {"kind": "vllm", "version": "1", "model": "m", "url": "u"}, "sampling": head["sampling"]}
    engine |= {"concurrency": 1, "num_draft_tokens": 4, "topk": 1, "num_steps": 3}
    server = acceptance_result(engine, [benchmark_result("vqa", served, {}, depth=3, max_new_tokens=80)])
    found = read_inputs([write(tmp_path / "written.json", to_json(Results(run={}, settings=[ours, server])))])
    assert found.notes == []
    assert found.settings == [ours, server]
    assert (server.totals.tokens, server.totals.forwards) == (11, 4)
    points = over_answer([ours], ["mine"]).series[0].points
    assert [p.value for p in points if p] == [stretch.acceptance_length for stretch in ours.breakdowns.answer_position]


def test_score_counts_for_a_setting_that_both_measured(tmp_path, file):
    timed = json.loads(file.read_text())
    counted = copy.deepcopy(timed)
    del counted["speed"], counted["settings"][1]
    counted["settings"][0]["concurrency"] = 7  # no answer depends on it
    found = read_inputs([write(tmp_path / "acc.json", counted), write(tmp_path / "speed.json", timed)])
    files = zip(found.setting_files, found.settings, strict=True)
    assert [(f.name, s.num_draft_tokens) for f, s in files] == [("acc.json", 4), ("speed.json", 8)]
    assert len(found.speeds) == 2
    assert any("what speedup counted" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "schema is None"),
        ("{}", "schema is None"),
        ('{"schema": "vlm_eagle.eval/1", "settings": []}', "schema is 'vlm_eagle.eval/1', expected 'vlm_eagle.eval/2'"),
        ('{"schema": "vlm_eagle.eval/2", "run": {}, "settings": []}', "no setting was measured"),
        ('{"schema": "vlm_eagle.eval/2", "run": {}, "settings": 3}', "settings is 3, expected a list"),
        ('{"schema": "vlm_eagle.eval/2", "run": {}, "settings": [{"sampling": 1}]}', "settings[0].sampling is 1, expected an"),
        ('{"schema": "vlm_eagle.eval/2", "run": {}, "settings": [{"sampling": {}}]}', "settings[0] has no concurrency"),
    ],
)
def test_other_files_are_refused_with_the_place(tmp_path, content, said):
    file = tmp_path / "some.json"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        read_inputs([file])
    assert said in str(error.value)
    assert "some.json" in str(error.value)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        read_inputs([tmp_path / "missing.json"])
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="is not JSON"):
        read_inputs([tmp_path / "latin.json"])


def test_sums_that_do_not_add_up_are_remarked(file):
    def more(value):
        value["settings"][0]["benchmarks"][0]["tokens"] += 1

    (note,) = read_inputs([changed(file, more)]).notes
    assert "setting 1, vqa" in note
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
    before, count = collect(read_inputs([file]), 100)

    def both(value):
        del value["settings"][1:]
        change(next(row for row in value["settings"][0]["benchmarks"][0]["prompts"] if max(row["committed"]) > 2))

    found = read_inputs([changed(file, both)])
    assert any("1 of 2 samples are not shown" in note for note in found.notes)
    assert collect(found, 100)[1] == count - 1 == len(before) - 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tokens", -1, "tokens is -1, expected a whole number"),
        ("tokens", True, "tokens is True, expected a whole number"),
        ("forwards", 10**400, "expected a whole number"),
        ("acceptance_length", float("nan"), "acceptance_length is nan, expected a finite number"),
        ("acceptance_length", 10**400, "expected a finite number"),
        ("acceptance_length", "3", "acceptance_length is '3', expected a finite number"),
        ("interval", [1.0, float("inf")], "interval[1] is inf, expected a finite number"),
        ("interval", [1.0], "interval is [1.0], expected a list of 2"),
        ("by_position", {}, "by_position is {}, expected a list"),
    ],
)
def test_values_of_another_kind_are_refused_with_the_place(file, key, value, said):
    place = changed(file, lambda whole: whole["settings"][0]["totals"].update({key: value}))
    with pytest.raises(UserError) as error:
        read_inputs([place])
    assert f"{place}.settings[0].totals.{key}" in str(error.value)
    assert said in str(error.value)
    assert len(str(error.value)) < 160 + len(str(place))


def test_labels_say_what_differs_and_nothing_else():
    chain = {"num_draft_tokens": 4, "topk": 1, "num_steps": 3, "target": "t", "sampling": {}, "concurrency": 1}
    files = [Path("a/x.json"), Path("a/y.json")]
    one, two = DecodingSetup(draft="d/one", **chain), DecodingSetup(draft="d/two", **chain)
    assert labels([one, two], files) == ["one, chain of 4 (vLLM: 3)", "two, chain of 4 (vLLM: 3)"]
    shared = {"Target": "t", "Draft tokens": "chain of 4 (vLLM: 3)", "Sampling": "greedy", "Concurrency": "1 at a time"}
    assert shared_facts([one, two]) == shared
    assert labels([one, one], files) == ["chain of 4 (vLLM: 3), x", "chain of 4 (vLLM: 3), y"]
    assert labels([one, one], files[:1] * 2) == ["chain of 4 (vLLM: 3), x, no. 1", "chain of 4 (vLLM: 3), x, no. 2"]
    no_tree = {"sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, "concurrency": 1}
    drafts = [DecodingSetup(draft=name, **no_tree) for name in ("a/draft", "b/draft")]
    assert labels(drafts, files) == ["a/draft", "b/draft"]
    assert labels(drafts[:1], files[:1]) == ["unknown tree"]
    assert shared_facts(drafts)["Sampling"] == "T=0.6, top-p 0.95, top-k 20"
    tree = DecodingSetup(num_draft_tokens=16, topk=4, num_steps=5, **no_tree)
    assert labels([tree], files[:1]) == ["tree of 16 (vLLM: 15; 5 steps, topk 4)"]


def test_samples_are_taken_evenly(tmp_path):
    rows = {name: [] for name in ("many", "few")}
    one = {
        "output_token_ids": [1, 2], "pieces": ["a", "b"], "committed": [1], "accepted": [1], "num_forwards": 1,
        "num_committed": 1, "turn": 0, "question": "q", "images": [], "language": "en", "modality": "text",
    }  # fmt: skip
    for name, count in (("many", 90), ("few", 3)):
        rows[name] = [{"id": f"{name}-{i}", **copy.deepcopy(one)} for i in range(count)]
    found = read_inputs([write(tmp_path / "r.json", results([setting(rows, 3)]))])
    chosen, count = collect(found, 20)
    assert count == 93
    assert [sample.benchmark for sample in chosen].count("few") == 3
    many = [int(s.answers[0][1].id.removeprefix("many-")) for s in chosen if s.benchmark == "many"]
    assert len(many) == 17 == len(set(many))
    assert max(many) > 80 > 10 > min(many)  # spread over the file
    assert len(collect(found, 500)[0]) == 93
    assert collect(found, 0)[0] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    """Any value of a good file replaced by anything: a page or a UserError, never another exception."""
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
        found = read_inputs([write(folder / "damaged.json", value)])
    except UserError as error:
        said = str(error)
    else:
        said = "damaged.json"
        render(found, title="damaged")
    assert "damaged.json" in said

"""Scores can be counted again from their rows, depend on nothing but the prompt, and survive an interruption."""

import json
from statistics import mean

import evaluations
import pytest
from evaluations import LENGTH, Evaluation, benchmarks, figures, prompt, rows_of

from vlm_eagle.data.benchmark import Benchmark
from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.data.conversation import Conversation, ImagePart, user_message
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.decoding.tree import TreeShape
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.evaluation import methods
from vlm_eagle.evaluation.result_schema import read_results
from vlm_eagle.evaluation.scores import our_column, scoring
from vlm_eagle.evaluation.scores.assemble import compare_answers
from vlm_eagle.evaluation.scores.prompts import content
from vlm_eagle.interop.model_card import model_card
from vlm_eagle.target.target import Target

SHAPES = {"chain4": TreeShape(4), "3,2,6": TreeShape(6, topk=2, num_steps=3)}
SMALL = ("--trees", "3,2,6", "--max-new-tokens", str(LENGTH))


@pytest.fixture(scope="module")
def folder(target, tmp_path_factory):
    return evaluations.save_pair(target, tmp_path_factory.mktemp("pair"))


@pytest.fixture
def evaluate(folder, tmp_path, monkeypatch):
    return Evaluation(folder, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["token", "visual_embeds"])
def test_rows_are_what_generate_writes_turn_by_turn(evaluate, folder, target, inputs):
    """Every turn is decoded again alone, by the public API, each after the answer that stands in the row before."""
    code, result = evaluate(*SMALL, "--trees", *SHAPES, "--image-inputs", inputs)
    assert code == 0
    options = {"max_new_tokens": LENGTH, "image_inputs": inputs}
    draft = Eagle3Draft.from_pretrained(folder / "draft")
    collator = VisionCollator(target.processor, for_generation=True)
    assert [s["num_draft_tokens"] for s in result["settings"]] == [4, 6]
    for setting, shape in zip(result["settings"], SHAPES.values(), strict=True):
        rows, turns = rows_of(setting), 0
        for benchmark in benchmarks():
            for asked in benchmark.prompts:
                conversation = asked.conversation
                for turn in range(len(asked.follow_ups) + 1):
                    row = rows[benchmark.name, asked.id, turn]
                    (own,) = generate(target, collator([conversation]), draft, Settings(shape=shape, **options))
                    assert row["output_token_ids"] == own.tokens
                    assert row["num_forwards"] == own.stats.forwards
                    assert columns_of(row["accepted"], shape.num_steps) == own.stats.accepted_at
                    text = target.tokenizer.decode(own.tokens, skip_special_tokens=True)
                    if turn < len(asked.follow_ups):
                        assert rows[benchmark.name, asked.id, turn + 1]["question"] == asked.follow_ups[turn]
                        conversation = conversation.answered(text).asked(asked.follow_ups[turn])
                    turns += 1
        assert turns == len(rows) == 10


def columns_of(accepted, depth):
    return [sum(n > i for n in accepted) for i in range(depth)]


def test_accepted_tokens_are_counted_by_forward():
    """The second answer's last forward was cut off behind a token of the draft's."""
    draft, own = True, False
    assert methods._accepted([own, draft, draft, own, own, draft, own], [3, 1, 2]) == [2, 0, 1]
    assert methods._accepted([own, draft, own, draft, draft], [2, 2]) == [1, 2]
    assert methods._accepted([own], []) == []


@pytest.mark.slow
def test_sums_are_counted_again_from_the_rows(evaluate):
    _, result = evaluate(*SMALL, "--trees", *SHAPES, "--temperature", "0.2")
    assert result["schema"] == "vlm_eagle.eval/2"
    for setting in result["settings"]:
        depth, counted = setting["num_steps"], []
        for benchmark in setting["benchmarks"]:
            tokens, forwards, at = 0, 0, [0] * depth
            for row in benchmark["prompts"]:
                tokens += len(row["output_token_ids"]) - 1
                forwards += len(row["committed"])
                assert sum(row["committed"]) == row["num_committed"] == len(row["output_token_ids"]) - 1
                assert len(row["committed"]) == len(row["accepted"]) == row["num_forwards"]
                assert all(0 <= c - a <= 1 for c, a in zip(row["committed"], row["accepted"], strict=True))
                assert len(row["pieces"]) == len(row["output_token_ids"])
                for accepted in row["accepted"]:
                    for i in range(accepted):
                        at[i] += 1
            assert (benchmark["tokens"], benchmark["forwards"]) == (tokens, forwards)
            assert benchmark["acceptance_length"] == tokens / forwards
            assert benchmark["by_position"] == [n / forwards for n in at]
            assert benchmark["interval"][0] <= benchmark["acceptance_length"] <= benchmark["interval"][1]
            counted.append((tokens, forwards, at))
        totals, (tokens, forwards, at) = setting["totals"], zip(*counted, strict=True)
        assert totals["acceptance_length"] == sum(tokens) / sum(forwards)
        assert totals["by_position"] == [sum(n) / sum(forwards) for n in zip(*at, strict=True)]
        assert setting["average_acceptance_length"] == pytest.approx(mean(t / f for t, f, _ in counted))
        assert totals["acceptance_length"] > 1.1, "the draft was never right: nothing was tested"
        for kinds in ("modality", "language", "turn"):
            parts = setting["breakdowns"][kinds].values()
            assert len(parts) > 1
            assert sum(p["tokens"] for p in parts) == sum(tokens)
            assert sum(p["forwards"] for p in parts) == sum(forwards)
        stretches = setting["breakdowns"]["answer_position"]
        assert sum(s["forwards"] for s in stretches) == sum(forwards)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", ["0", "1"])
def test_nothing_depends_on_order_or_batches(evaluate, temperature):
    options = (*SMALL, "--temperature", temperature)
    _, one = evaluate(*options)
    mixed = [Benchmark(b.name, b.prompts[::-1], max_new_tokens=b.max_new_tokens) for b in benchmarks()[::-1]]
    _, other = evaluate(*options, "--concurrency", "4", on=mixed, file="other.json")
    assert figures(one) == figures(other)
    for a, b in zip(one["settings"], other["settings"], strict=True):
        assert a["totals"] == b["totals"]
        assert {x["name"]: x["interval"] for x in a["benchmarks"]} == {x["name"]: x["interval"] for x in b["benchmarks"]}


@pytest.mark.slow
def test_seeds_decide_sampled_answers(evaluate):
    options = (*SMALL, "--samplings", "sampled")
    runs = [evaluate(*options, "--seed", seed, file=f"{i}.json")[1] for i, seed in enumerate("112")]
    assert figures(runs[0]) == figures(runs[1])
    assert figures(runs[0]) != figures(runs[2])
    answers = {tuple(row["output_token_ids"]) for row in rows_of(runs[0]["settings"][0]).values()}
    assert len(answers) > 5, "sampling did nothing"


def interrupted(evaluate, monkeypatch, after, *options, on=None):
    """Kills an evaluation when some questions were answered; what the journal holds then."""
    answer, count = our_column.OurColumn.answer, [0]

    def dying(self, questions):
        count[0] += len(questions)
        if count[0] > after:
            raise KeyboardInterrupt
        return answer(self, questions)

    with monkeypatch.context() as patch:
        patch.setattr(our_column.OurColumn, "answer", dying)
        assert evaluate(*SMALL, *options, on=on) == (130, None)
    return sorted(evaluate.out.glob("out.journal.*.jsonl"))


def counting(monkeypatch):
    """Counts the questions asked from now on."""
    answer, count = our_column.OurColumn.answer, []
    monkeypatch.setattr(
        our_column.OurColumn, "answer", lambda self, questions: count.extend(questions) or answer(self, questions)
    )
    return count


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--samplings", "sampled", "--concurrency", "3")])
def test_an_interrupted_evaluation_goes_on(evaluate, monkeypatch, options):
    _, whole = evaluate(*SMALL, *options, file="whole.json")
    (journal,) = interrupted(evaluate, monkeypatch, 6, *options)
    kept = [json.loads(line) for line in journal.read_text().splitlines() if line]
    finished = sum(len(row["outcome"]["turns"]) for row in kept)
    assert 3 <= finished <= 6
    journal.write_bytes(journal.read_bytes()[:-9])  # killed while writing: the last line is gone
    count = counting(monkeypatch)
    _, result = evaluate(*SMALL, *options)
    assert len(count) == 10 - finished + len(kept[-1]["outcome"]["turns"])
    assert figures(result) == figures(whole)
    for a, b in zip(result["settings"], whole["settings"], strict=True):
        assert (a["totals"], a["breakdowns"]) == (b["totals"], b["breakdowns"])
    assert not list(evaluate.out.glob("*.journal.*"))


OTHERS = (
    "--max-new-tokens 6",
    "--image-inputs visual_embeds",
    "--temperature 1",
    "--seed 1",
    "--trees chain4",
    "--thinking",
    "--llm-only",
)


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
def test_a_journal_of_other_settings_is_not_used(evaluate, monkeypatch, other):
    few = [Benchmark("words", [prompt("code", i) for i in range(3)])]
    interrupted(evaluate, monkeypatch, 2, on=few)
    count = counting(monkeypatch)
    evaluate(*SMALL, *other.split(), on=few)
    assert len(count) == 3


def test_a_prompt_is_known_by_all_that_is_asked(tmp_path):
    """Two pictures under one question are two prompts, whatever their files and ids are called."""
    picture = mix_picture()
    other = picture.point(lambda value: 255 - value)
    for name, shown in (("a", picture), ("b", other), ("c", picture)):
        shown.save(tmp_path / f"{name}.png")
    ask = lambda *images, id="x", text="What is this?", later=(): content(
        evaluations.Prompt(Conversation(id, (user_message(text, images),)), later)
    )
    first = ask(tmp_path / "a.png")
    assert first == ask(tmp_path / "c.png", id="y")
    others = [ask(tmp_path / "b.png"), ask(), ask(tmp_path / "a.png", text="What?"), ask(tmp_path / "a.png", later=("Why?",))]
    assert len({first, *others, ask(picture), ask(other)}) == 7


def test_a_journal_of_other_code_is_not_used(evaluate, monkeypatch):
    few = [Benchmark("words", [prompt("code", i) for i in range(3)])]
    interrupted(evaluate, monkeypatch, 2, on=few)
    monkeypatch.setattr(our_column, "code_digest", lambda: "changed")
    count = counting(monkeypatch)
    evaluate(*SMALL, on=few)
    assert len(count) == 3


@pytest.mark.slow
def test_results_are_not_made_twice_and_not_kept_for_too_long(evaluate, monkeypatch, capsys):
    evaluate(*SMALL)
    count = counting(monkeypatch)
    evaluate(*SMALL)
    assert (count, "Already scored" in capsys.readouterr().out) == ([], True)
    evaluate(*SMALL, on=[Benchmark("words", [prompt("arithmetic", 9)])])
    assert len(count) == 1


def test_prompts_that_cannot_be_asked_are_counted_and_the_rest_goes_on(evaluate, tmp_path):
    lost = Conversation("lost", (user_message("What is this?", (tmp_path / "no.png",)),))
    long = Conversation("long", (user_message("word " * 9000),))
    replies = ["word " * 9000, "never asked"]
    words = Benchmark("words", [prompt("code", 1), evaluations.Prompt(long), prompt("code", 2, *replies)], {"bad JSON": 2})
    hopeless = Benchmark("hopeless", [evaluations.Prompt(lost)])
    code, result = evaluate(*SMALL, on=[words, hopeless])
    assert code == 0
    for setting in result["settings"]:
        (row,) = setting["benchmarks"]
        assert row["skipped"] == {"bad JSON": 2, "too long": 1, "later turn: too long": 1}
        assert [(r["id"], r["turn"]) for r in row["prompts"]] == [("code-1", 0), ("code-2", 0)]
        assert setting["unanswered"] == {"hopeless": {"image missing": 1}}
    assert evaluate(*SMALL, on=[hopeless], file="none.json") == (2, None)


@pytest.mark.slow
def test_drafts_side_by_side_share_the_target(evaluate, folder, target, capsys):
    other = evaluations.make_imitating_draft(Target(target.model, target.processor, (3, 4, 6)))
    other.save_pretrained(evaluate.out / "other")
    code, result = evaluate(*SMALL, "--draft", str(folder / "draft"), str(evaluate.out / "other"), "--check")
    assert code == 0
    assert [s["draft"].rsplit("/", 1)[1] for s in result["settings"]] == ["draft", "other"]
    assert result["settings"][0]["totals"] != result["settings"][1]["totals"]
    assert all(s["totals"]["equal_to_target_alone"] == s["totals"]["answers"] == 10 for s in result["settings"])
    assert "10 of 10 answers equal" in " ".join(capsys.readouterr().out.split())
    _, alone = evaluate(*SMALL, "--draft", str(evaluate.out / "other"), file="alone.json")
    assert figures(alone) == figures(result)[1:]


@pytest.mark.slow
def test_an_answer_that_differs_is_noticed(evaluate):
    evaluate(*SMALL, "--trees", *SHAPES)
    drafted, alone = read_results(evaluate.out / "out.json").settings
    compare_answers(drafted, alone)
    assert drafted.totals.equal_to_target_alone == drafted.totals.answers
    alone.benchmarks[1].prompts[0].output_token_ids[-1] += 1
    compare_answers(drafted, alone)
    assert [b.equal_to_target_alone for b in drafted.benchmarks] == [5, 4]


def test_sampled_answers_cannot_be_checked(evaluate, capsys):
    assert evaluate(*SMALL, "--check", "--samplings", "sampled")[0] == 2
    assert "add greedy" in capsys.readouterr().err
    _, result = evaluate(*SMALL, "--check", "--samplings", "sampled", "greedy", on=[Benchmark("words", [prompt("code", 1)])])
    assert [(setting["totals"]["answers"] is not None) for setting in result["settings"]] == [False, True]


def test_pictures_are_named_so_that_a_report_finds_them(evaluate, tmp_path):
    picture = mix_picture()
    inside, outside = tmp_path / "pictures" / "a.png", tmp_path.parent / f"{tmp_path.name}-outside.png"
    inside.parent.mkdir()
    for file in (inside, outside):
        picture.save(file)
    asked = Conversation("seen", (user_message("What is this?", (inside, outside, picture)),))
    _, result = evaluate(*SMALL, on=[Benchmark("seen", [evaluations.Prompt(asked)])])
    one, two, three = result["settings"][0]["benchmarks"][0]["prompts"][0]["images"]
    assert (one, two) == ("pictures/a.png", str(outside))
    assert three.startswith("out_images/")
    assert (tmp_path / three).is_file()


def mix_picture():
    parts = prompt("describe", 1).conversation.messages[-1].content
    return next(part.image for part in parts if isinstance(part, ImagePart))


def test_pieces_join_to_the_answer(target):
    tokens = target.tokenizer.encode("Two 红色 circles, ½ of them big 🙂.<|im_end|>", add_special_tokens=False)
    pieces = our_column.pieces_of(target.tokenizer, tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == "Two 红色 circles, ½ of them big 🙂.<|im_end|>"
    assert "" in pieces  # a character of several tokens


@pytest.mark.parametrize("end", ["", "<|im_end|>"])
def test_pieces_of_an_answer_that_ends_within_a_character(target, end):
    """The bytes that wait for their character are not lost: they are what the tokenizer makes of them."""
    half = target.tokenizer.encode("big 🙂", add_special_tokens=False)[:-1]
    tokens = half + target.tokenizer.encode(end, add_special_tokens=False)
    pieces = our_column.pieces_of(target.tokenizer, tokens)
    assert "".join(pieces) == target.tokenizer.decode(tokens)
    assert "\ufffd" in pieces[-1]


def test_without_the_vision_tower_images_are_skipped(evaluate):
    _, result = evaluate(*SMALL, "--llm-only")
    (setting,) = result["settings"]
    assert [b["name"] for b in setting["benchmarks"]] == ["words"]
    assert setting["unanswered"] == {"seen": {"has media": 3}}


@pytest.mark.slow
def test_model_cards_read_it(evaluate, folder):
    _, result = evaluate(*SMALL)
    config = Eagle3Draft.from_pretrained(folder / "draft").config
    card = model_card(config, form="native", target="demo", draft="x", vision=True, results=result)
    length = result["settings"][0]["benchmarks"][0]["acceptance_length"]
    assert f"| words | {length:.2f} |" in card


def test_a_prompt_twice_in_a_file_is_asked_once_and_counted_twice(evaluate, monkeypatch):
    count = counting(monkeypatch)
    twice = [prompt("code", 1), prompt("code", 1)]
    _, result = evaluate(*SMALL, on=[Benchmark("words", twice)])
    assert len(count) == 1
    assert all(len(s["benchmarks"][0]["prompts"]) == 2 for s in result["settings"])


def test_groups_are_of_one_kind():
    column = lambda n: type("Column", (), {"batch_size": n})()
    a, b = column(2), column(3)
    task = lambda c, limit: scoring.Task(c, None, "", limit, 0)
    tasks = [task(a, 9), task(a, 9), task(a, 9), task(a, 7), task(b, 7), task(b, 7), task(b, 7), task(b, 7)]
    assert [len(group) for group in scoring._groups(tasks)] == [2, 1, 1, 3, 1]


def test_two_benchmarks_of_one_name_are_refused(evaluate, capsys):
    both = [Benchmark("words", [prompt("code", 1)]), Benchmark("words", [prompt("code", 2)])]
    assert evaluate(*SMALL, on=both)[0] == evaluate(*SMALL, on=both, script=evaluations.speedup)[0] == 2
    assert "Several benchmarks are called words" in capsys.readouterr().err

"""Any row becomes data or a counted, explained failure; files that come along stay inside the folder."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_chats import picture, read, turns, write

from data_recipes.regenerate import run
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.dialogue import Reply
from data_recipes.regenerate.media import place_media
from vlm_eagle.data.conversation import BadRow, Conversation
from vlm_eagle.data.conversation_rows import parse_conversation, read_conversations
from vlm_eagle.errors import UserError

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PART = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["text", "image", "video"]) | ANY, "text": ANY, "image": ANY}
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | ANY,
        "content": st.text(max_size=9) | st.lists(PART, max_size=2) | ANY,
    }
)
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=9).filter(lambda line: line.encode().strip())
ROW = (
    st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=3) | ANY}, optional={"id": ANY})
    | ANY.filter(lambda value: not isinstance(value, str))
    | LINE  # written as it is; a blank one would be no row
)
REPLY = st.builds(Reply, st.text(st.characters(), max_size=4), st.integers(0, 9), cut=st.booleans(), special=st.booleans())


class Parrot:
    """Answers with what it was given, in reverse order of the dialogues."""

    def __init__(self, replies):
        self.replies, self.made_by = replies, {"target": "parrot"}

    def answers(self, dialogues):
        for i, dialogue in enumerate(reversed(list(dialogues))):
            while not dialogue.is_over:
                dialogue.take(self.replies[(i + dialogue.turn) % len(self.replies)])
            yield dialogue

    def summary(self):
        return {}


@pytest.fixture
def through(monkeypatch):
    def answered(replies, data, out, **more):
        monkeypatch.setattr(run, "InProcess", lambda config: Parrot(replies))
        run.regenerate(RegenerateConfig(data=[str(data)], out=str(out), target="parrot", **more))
        return json.loads((out / "regenerate.json").read_text())["counts"]

    return answered


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=4), replies=st.lists(REPLY, min_size=1, max_size=3), keep=st.booleans())
def test_read_is_written_and_failed(through, tmp_path_factory, rows, replies, keep):
    folder = tmp_path_factory.mktemp("rows")
    counts = through(replies, write(folder / "d.jsonl", rows), folder / "out", truncated_answers="keep" if keep else "drop")
    train, failed = read(folder / "out" / "train.jsonl"), read(folder / "out" / "failed.jsonl")
    assert len(train) + len(failed) == len(rows) == counts["asked"]
    assert (counts["written"], sum(counts["failed"].values())) == (len(train), len(failed))
    assert all(row["reason"] and row["detail"] for row in failed)
    for row in read_conversations(folder / "out" / "train.jsonl"):
        assert isinstance(row, Conversation), row
        assert row.messages[-1].role == "assistant"


def test_the_order_is_that_of_the_data(through, tmp_path):
    rows = [{"id": "same", "messages": turns(f"q{i}")} for i in range(5)]
    through([Reply("a", 1)], write(tmp_path / "d.jsonl", rows), tmp_path / "out")
    asked = [row["messages"][0]["content"][0]["text"] for row in read(tmp_path / "out" / "train.jsonl")]
    assert asked == [f"q{i}" for i in range(5)]


def test_pictures_come_along(tmp_path):
    for name in ("a/x.png", "b/x.png", "out/images/x.png"):
        picture(tmp_path / name, {"a": "red", "b": "green", "o": "blue"}[name[0]])
    out, placed = tmp_path / "out", []
    for folder in ("a", "b", "out/images"):
        row = {"messages": [{"role": "user", "content": [
            {"type": "image", "image": "x.png"}, {"type": "video", "video": ["x.png", "x.png"]}]}]}  # fmt: skip
        conversation = place_media(parse_conversation(row, "here", tmp_path / folder), out)
        image, video = conversation.messages[0].content
        assert video.video == (image.image, image.image)
        assert image.image.read_bytes() == (tmp_path / folder / "x.png").read_bytes()
        assert image.image.is_relative_to(tmp_path / "out")
        placed.append(image.image)
        assert place_media(conversation, out) == conversation
    assert len(set(placed)) == 3
    assert placed[2] == tmp_path / "out/images/x.png"


@pytest.mark.parametrize("name", ["gone.png", "."])
def test_what_is_no_file_costs_nothing(tmp_path, name):
    (tmp_path / "a").mkdir()
    row = parse_conversation({"messages": turns("q", image="x.png")}, "here", tmp_path / "a")
    row.messages[0].content[0].image.unlink(missing_ok=True)
    odd = parse_conversation(
        {"messages": [{"role": "user", "content": [{"type": "image", "image": name}]}]}, "here", tmp_path / "a"
    )
    for conversation in (row, odd):
        place = place_media(conversation, tmp_path / "out").messages[0].content[0].image
        assert place.is_relative_to(tmp_path / "out")
        assert not place.exists()


def test_copies_where_links_are_not_possible(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", no_links)
    picture(tmp_path / "a" / "x.png")
    row = parse_conversation({"messages": turns("q", image="x.png")}, "here", tmp_path / "a")
    place = place_media(row, tmp_path / "out").messages[0].content[0].image
    assert place.read_bytes() == (tmp_path / "a" / "x.png").read_bytes()
    assert [file.name for file in place.parent.iterdir()] == ["x.png"]


def test_data_is_not_written_over(through, tmp_path):
    data = write(tmp_path / "train.jsonl", [{"messages": turns("q")}])
    with pytest.raises(UserError, match="Give another --out"):
        through([Reply("a", 1)], data, tmp_path)
    assert read(data) == [{"messages": turns("q")}]


def test_what_else_a_row_says_stays(through, tmp_path):
    row = {"source": "somewhere", "id": "x", "messages": turns("q"), "tags": [1, {"a": None}], "regenerated": "before"}
    through([Reply("a", 1)], write(tmp_path / "d.jsonl", [row]), tmp_path / "out")
    (new,) = read(tmp_path / "out" / "train.jsonl")
    assert (new["source"], new["tags"], new["regenerated"]["target"]) == ("somewhere", [1, {"a": None}], "parrot")


def test_a_row_written_again_is_read_again(through, tmp_path):
    data = write(tmp_path / "d.jsonl", [{"id": "x", "messages": turns("q1", "a1", "q2")}])
    through([Reply("new", 2)], data, tmp_path / "one")
    through([Reply("newer", 2)], tmp_path / "one" / "train.jsonl", tmp_path / "two")
    (row,) = read_conversations(tmp_path / "two" / "train.jsonl")
    assert not isinstance(row, BadRow)
    assert [part.text for m in row.messages for part in m.content] == ["q1", "newer", "q2", "newer"]

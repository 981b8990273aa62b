"""What a run says about itself: rate, failures and the time that is left."""

import io

from rich.console import Console

from data_recipes.regenerate import progress
from data_recipes.regenerate.dialogue import DialogueResult, Reply


def test_lines_where_there_is_no_terminal(monkeypatch):
    now, text = [100.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.RegenerateProgress(Console(file=text, width=200), total=1000, done=100) as shown:
        for i in range(40):
            now[0] += 1.0
            kept = [] if i == 5 else [Reply("a", 50)]
            shown.finished(DialogueResult((i, 0), "id", kept, written=50))
    assert (shown.conversations, shown.tokens, shown.seconds) == (40, 2000, 40.0)
    assert text.getvalue().splitlines() == ["131/1000  1.0/s  50 tokens/s  1 failed  left: 0:14:29"]


def test_a_bar_where_there_is_one():
    text = io.StringIO()
    with progress.RegenerateProgress(Console(file=text, width=120, force_terminal=True), total=10, done=4) as shown:
        shown.finished(DialogueResult((0, 0), "id", [Reply("a", 3)], written=3))
    assert "5/10" in text.getvalue()
    assert "left:" in text.getvalue()

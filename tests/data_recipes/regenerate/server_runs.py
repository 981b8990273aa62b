"""The command through a server, with the waiting of tests."""

from types import SimpleNamespace

from own_chats import mixed_rows, write
from waiting import LIMIT, Clock

from data_recipes.regenerate import pool
from data_recipes.regenerate.config import RegenerateConfig
from data_recipes.regenerate.run import regenerate


def rows_of_every_kind(folder):
    return write(folder / "chats.jsonl", mixed_rows(folder))


def clock_of_pool(monkeypatch) -> Clock:
    """A clock by which pools of servers, made from now on, wait; for one thread that asks."""
    clock = Clock()
    monkeypatch.setattr(pool, "time", clock)
    monkeypatch.setattr(pool, "threading", SimpleNamespace(Condition=clock.condition))
    return clock


def run(tmp_path, data, urls, **more):
    """(exit code, folder)"""
    options = {"concurrency": 4, "backoff": 0.01, "timeout": LIMIT, "server_timeout": 60.0, **more}
    out = tmp_path / options.pop("out", "out")
    return regenerate(RegenerateConfig(data=[str(data)], out=str(out), server=list(urls), **options)), out

"""Several servers as one: who is asked, who is left out, when a run gives up. The servers here are objects, no network, and
time goes on when somebody waits."""

import threading

import pytest
from server_runs import clock_of_pool
from waiting import LIMIT, wait_for

from data_recipes.regenerate.pool import NoServer, ServerPool
from vlm_eagle.errors import UserError
from vlm_eagle.interop.engines.http import Refused, Unanswered


class FakeServer:
    """`up` false: nobody answers. `fails`: the next so many requests fail although it is up. `wait`: what it then asks for."""

    def __init__(self, url, model="m", up=True, fails=0, wait=0.0):
        self.url, self.model, self.up, self.fails, self.wait = url, model, up, fails, wait
        self.asked = self.introduced = 0

    def introduce(self):
        self.introduced += 1
        if not self.up:
            raise Unanswered(f"nobody at {self.url}")

    def answer(self):
        self.asked += 1
        if not self.up or self.fails:
            self.fails = max(self.fails - 1, 0)
            raise Unanswered(f"{self.url} broke", self.wait)
        return self.url


@pytest.fixture
def clock(monkeypatch):
    return clock_of_pool(monkeypatch)


def pool(*servers, tries=4, backoff=0.0, server_timeout=60.0):
    lines = []
    made = ServerPool(servers, tries=tries, backoff=backoff, server_timeout=server_timeout, say=lines.append)
    made.lines = lines
    return made


def opened(*servers, **options):
    made = pool(*servers, **options)
    made.open()
    return made


def ask(made):
    return made.ask(FakeServer.answer)


def test_who_has_least_to_do_is_asked():
    a, b = FakeServer("a"), FakeServer("b")
    made = opened(a, b)
    assert made.ask(lambda first: ask(made) + first.url) == "ba"  # while a works, b is asked
    assert (a.introduced, b.introduced) == (1, 1)


def test_another_server_takes_over():
    a, b = FakeServer("a", fails=99), FakeServer("b")
    made = opened(a, b)
    assert [ask(made) for _ in range(6)] == ["b"] * 6
    assert a.asked == 3  # then it was left out; it says who it is, so it is back at once, but a healthy one comes first


def test_a_server_that_is_left_out_comes_back(clock):
    a, b = FakeServer("a"), FakeServer("b")
    made = opened(a, b, backoff=0.01)
    a.up = False
    assert {ask(made) for _ in range(10)} == {"b"}
    assert a.asked == 3
    assert made.lines == ["a is left out for a while: a broke"]
    a.up = True
    clock.sleep(1)
    assert made.ask(lambda first: ask(made) + first.url) == "ab"  # b never was away
    assert made.lines[-1] == "a takes part again."
    b.up = False
    assert {ask(made) for _ in range(5)} == {"a"}


def test_one_that_was_down_at_the_start_joins_the_others(clock):
    a, b = FakeServer("a", up=False), FakeServer("b")
    made = opened(a, b, backoff=0.01)
    assert ask(made) == "b"
    a.up = True
    clock.sleep(1)
    assert made.ask(lambda first: ask(made) + first.url) == "ab"
    assert made.lines == ["a does not take part yet: nobody at a", "a takes part again."]


def test_a_server_that_asks_for_a_pause_gets_it(clock):
    """At its first word, and the others go on; it is no failure worth a line."""
    a, b = FakeServer("a", fails=1, wait=1.0), FakeServer("b")
    made = opened(a, b, backoff=0.001)
    assert [ask(made) for _ in range(5)] == ["b"] * 5
    clock.sleep(0.9)
    assert made.ask(lambda first: ask(made) + first.url) == "bb"
    assert (a.asked, a.introduced) == (1, 1)
    clock.sleep(0.2)
    assert made.ask(lambda first: ask(made) + first.url) == "ab"
    assert not made.lines


def test_one_server_alone_that_asks_for_pauses(clock):
    a = FakeServer("a", fails=3, wait=7.0)
    made = opened(a, backoff=0.001)
    started = clock.now
    assert ask(made) == "a"
    assert 21 <= clock.now - started < 22
    assert a.asked == 4
    assert made.lines == ["a is left out for a while: a broke", "a takes part again."]  # at the third in a row


def test_an_answer_under_way_does_not_end_a_pause(clock):
    a = FakeServer("a", fails=1, wait=7.0)
    made = opened(a, backoff=0.001, tries=1)

    def slow(server):
        with pytest.raises(Unanswered):
            ask(made)
        return "late"

    started = clock.now
    assert made.ask(slow) == "late"
    assert ask(made) == "a"
    assert 7 <= clock.now - started < 8


def test_pauses_that_are_asked_for_have_a_limit(clock):
    made = opened(FakeServer("a"), backoff=1.0, server_timeout=100.0)
    for wait, pause in ((0.5, 2), (40.0, 25), (10.0, 10)):
        made.states[0].outs = 0
        made._leave_out(made.states[0], Unanswered("", wait))
        assert made.states[0].out_until - clock.now == pause  # a quarter of the patience: it is asked again in time


def test_waiting_costs_no_tries(clock):
    a = FakeServer("a")
    made = opened(a, tries=4, backoff=0.01)
    a.up = False
    clock.at(5, lambda: setattr(a, "up", True))
    started = clock.now
    assert ask(made) == "a"
    assert a.asked == 4  # three while it was down
    assert 5 <= clock.now - started < 15  # pauses grow twofold
    assert a.introduced > 2


def test_every_try_failed():
    a = FakeServer("a", fails=99)
    with pytest.raises(Unanswered, match="a broke"):
        ask(opened(a, tries=2))
    assert a.asked == 2


def test_a_refusal_is_final_and_no_failure():
    a, calls = FakeServer("a"), []

    def refuse(server):
        calls.append(server)
        raise Refused("too long", 400)

    made = opened(a)
    for _ in range(5):
        with pytest.raises(Refused, match="too long"):
            made.ask(refuse)
    assert len(calls) == 5
    assert not made.lines
    assert ask(made) == "a"


def test_an_end_to_patience(clock):
    a = FakeServer("a")
    made = opened(a, backoff=0.01, server_timeout=30.0, tries=9)
    a.up = False
    started = clock.now
    with pytest.raises(NoServer, match="the same command then continues"):
        ask(made)
    assert 30 <= clock.now - started < 31


def test_a_server_that_answers_nothing_but_who_it_is_is_none(clock):
    a = FakeServer("a", fails=10**6)
    made = opened(a, backoff=0.01, server_timeout=30.0, tries=10**6)
    with pytest.raises(NoServer):
        ask(made)
    assert a.introduced >= 3  # it took part again and again


def test_a_closed_pool_lets_nobody_wait():
    made, errors = opened(FakeServer("a"), backoff=1.0, server_timeout=60.0), []
    made.states[0].server.up = False
    made._leave_out(made.states[0])

    def waiting():
        try:
            ask(made)
        except NoServer as error:
            errors.append(str(error))

    thread = threading.Thread(target=waiting)
    thread.start()
    made.close()
    thread.join(LIMIT)
    assert errors == ["The run is over."]


def test_success_in_between_begins_the_count_anew():
    a, b = FakeServer("a"), FakeServer("b")
    made = opened(a, b)
    for _ in range(5):
        a.fails = b.fails = 1
        ask(made)
    assert not made.lines


def test_pauses_grow_and_have_a_limit(clock):
    made = opened(FakeServer("a"), backoff=1.0, server_timeout=1000.0)
    state, pauses = made.states[0], []
    for _ in range(9):
        made._leave_out(state)
        pauses.append(state.out_until - clock.now)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_some_may_be_down_at_the_start():
    a, b = FakeServer("a", up=False), FakeServer("b")
    made = pool(a, b, backoff=0.01)
    assert made.open() == "m"
    assert made.lines == ["a does not take part yet: nobody at a"]
    assert ask(made) == "b"
    with pytest.raises(UserError, match="nobody at a"):
        pool(a).open()


def test_servers_of_one_model_only():
    with pytest.raises(UserError, match="b serves n, the others m"):
        pool(FakeServer("a"), FakeServer("b", model="n")).open()


def test_a_server_that_comes_back_with_another_model_stops_the_run(clock):
    a = FakeServer("a")
    made = opened(a, backoff=0.01, tries=9)
    a.up = False

    def replaced():
        a.model, a.up = "n", True

    clock.at(0.2, replaced)
    with pytest.raises(UserError, match="a serves n"):
        ask(made)


def test_a_late_answer_brings_a_server_back():
    a = FakeServer("a", fails=3)
    made = opened(a, backoff=10.0, tries=1)
    broke = []

    def late(server):
        for _ in range(3):
            try:
                made.ask(FakeServer.answer)
            except Unanswered:
                broke.append(1)
        assert made.states[0].out_until
        return "late"

    assert made.ask(late) == "late"
    assert len(broke) == 3
    assert ask(made) == "a"  # at once


class SlowToSay(FakeServer):
    """Says who it is only after `up_again`, but the first time at once."""

    def __init__(self, url):
        super().__init__(url)
        self.up_again = threading.Event()

    def introduce(self):
        super().introduce()
        assert self.introduced == 1 or self.up_again.wait(LIMIT)


class WhoWaits(threading.Condition):
    """`threads`: all that ever waited on it."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def wait(self, timeout=None):
        self.threads.add(threading.current_thread())
        return super().wait(timeout)


def test_many_threads_wait_for_one_probe():
    """One of twenty asks whether the server is back; the others wait meanwhile, however long that lasts."""
    a, done = SlowToSay("a"), []
    made = opened(a, backoff=0.001, tries=9)
    made.changed = WhoWaits()
    a.fails = 20
    threads = [threading.Thread(target=lambda: done.append(ask(made))) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_for("a probe", lambda: a.introduced > 1)
    wait_for("nineteen threads that wait", lambda: a.introduced > 2 or len(made.changed.threads) >= 19)
    assert a.introduced == 2
    a.fails = 0
    a.up_again.set()
    for thread in threads:
        thread.join(LIMIT)
    assert done == ["a"] * 20
    assert a.asked <= 20 + 20

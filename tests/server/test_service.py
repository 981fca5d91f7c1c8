"""The registry over the fake engine: events find their session, whatever is left is cancelled, faults are seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from glm_engine.errors import EngineError, QueueFullError, RequestError
from glm_engine.fake import FakeEngine, Faults
from glm_engine.request import Event, Prompt, Request
from glm_server.session import Session
from server_support import Harness, scripted, toy_config, wait_until

MakeHarness = Callable[..., Harness]


def request(first: int = 1, length: int = 4, **fields: object) -> Request:
    return Request(Prompt((first, 241, 244), 1, True), max_new_tokens=length, **fields)  # type: ignore[arg-type]


def collect(session: Session, finished: int = 1) -> list[Event]:
    events: list[Event] = []
    while sum(event.finish is not None for event in events) < finished:
        got = session.events(5)
        assert got, "no event came"
        events += got
    return events


def test_tokens_come_in_order(harness: MakeHarness) -> None:
    server = harness(answer=scripted([5, 6, 7, 245]))
    with server.service.session() as session:
        session.submit(request())
        events = collect(session)
    assert [event.token for event in events] == [None, 5, 6, 7, 245][:5]
    assert events[0].started
    assert events[-1].finish == "stop"
    wait_until(lambda: server.service.live == 0)


def test_choices_end_apart(harness: MakeHarness) -> None:
    def answer(asked: Request, index: int, tokens: object) -> int:
        return 245 if len(tokens) >= index else 7  # type: ignore[arg-type]

    server = harness(answer=answer)
    with server.service.session() as session:
        session.submit(request(n=3))
        events = collect(session, 3)
    assert [event.index for event in events if event.finish] == [0, 1, 2]
    assert server.metric("requests_total", finish_reason="stop") == 3
    assert server.metric("request_seconds_count") == 1


def test_many_sessions_get_their_own(harness: MakeHarness) -> None:
    server = harness(max_waiting=64)
    wrong: list[object] = []

    def run(first: int) -> None:
        with server.service.session() as session:
            numbers = {session.submit(request(first + k)) for k in range(3)}
            if not {event.request for event in collect(session, 3)} <= numbers:
                wrong.append(first)

    threads = [threading.Thread(target=run, args=(10 * i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    wait_until(lambda: server.service.live == 0)
    assert server.engine.stats()["running"] == 0


def test_leaving_a_session_frees_its_slots(harness: MakeHarness) -> None:
    server = harness(answer=lambda *_: 7, faults=Faults(step_s=0.01), max_batch_size=1)
    with server.service.session() as session:
        session.submit(request(length=100))
        session.submit(request(length=100))
        session.events(5)
    wait_until(lambda: server.service.live == 0)
    assert server.engine.stats()["running"] == server.engine.stats()["waiting"] == 0
    assert server.metric("requests_total", finish_reason="cancelled") == 2


def test_refusals_leave_no_record(harness: MakeHarness) -> None:
    server = harness(max_batch_size=1, max_waiting=1, faults=Faults(hang_after=0))
    with server.service.session() as session:
        with pytest.raises(RequestError) as refused:
            session.submit(request(length=1000))
        assert refused.value.field == "max_new_tokens"
        session.submit(request())
        with pytest.raises(QueueFullError):
            session.submit(request())
        assert server.service.live == 1


def test_hang_is_seen_after_the_deadline(harness: MakeHarness) -> None:
    server = harness(faults=Faults(hang_after=1), settings={"step_deadline_s": 0.3})
    assert server.service.alive
    with server.service.session() as session:
        session.submit(request())
        assert server.service.alive
        wait_until(lambda: not server.service.alive)
        assert server.failures == []
        server.service.check()
        with pytest.raises(EngineError, match=r"no step ended for 0.3 s"):
            collect(session)
    assert server.failures == ["no step ended for 0.3 s"]
    with pytest.raises(EngineError):
        server.service.session().submit(request())


def test_idle_is_alive(harness: MakeHarness) -> None:
    server = harness(settings={"step_deadline_s": 0.1})
    time.sleep(0.3)
    assert server.service.alive


def test_slow_steps_without_events_are_progress(harness: MakeHarness) -> None:
    """A prefill counts steps but reports nothing: the engine is alive."""

    class Prefilling(FakeEngine):
        def poll(self, timeout_s: float) -> list[Event]:
            self._steps += 1
            time.sleep(0.05)
            return []

    server = harness(settings={"step_deadline_s": 0.3}, faults=Faults(hang_after=0))
    server.engine.__class__ = Prefilling
    with server.service.session() as session:
        session.submit(request())
        time.sleep(0.8)
        assert server.service.alive
        server.engine.__class__ = FakeEngine


def test_close_ends_what_runs(harness: MakeHarness) -> None:
    server = harness(answer=lambda *_: 7, faults=Faults(step_s=0.01))
    with server.service.session() as session:
        session.submit(request(length=100))
        session.events(5)
        server.service.close()
        assert collect(session)[-1].finish == "shutdown"


def test_crash_tells_everyone_once(harness: MakeHarness) -> None:
    server = harness(faults=Faults(crash_after=2))
    with server.service.session() as session:
        session.submit(request(length=100, ignore_end=True))
        with pytest.raises(EngineError, match="crashed"):
            collect(session)
    assert server.failures == ["the fake engine crashed"]


def test_fake_refuses_after_close() -> None:
    engine = FakeEngine(toy_config())
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request())


def test_fake_time_limit() -> None:
    engine = FakeEngine(toy_config(), answer=lambda *_: 7, faults=Faults(step_s=0.01))
    engine.submit(request(length=100, max_time_s=0.05))
    events: list[Event] = []
    wait_until(lambda: bool(events.extend(engine.poll(0.1)) or [e for e in events if e.finish]))
    assert events[-1].finish == "time"
    engine.close()


def test_fake_score_is_deterministic() -> None:
    engine = FakeEngine(toy_config())
    logits = engine.score([1, 2, 3], 2, 0, True)
    assert logits.shape == (3, 256)
    assert (logits[:2] == engine.score([1, 2], 2, 0, True)).all()
    engine.close()

"""Turns: in the order in which they were asked for, given between two passes, and named."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import pytest

from nbllm.attention.analysis.attribution import attribute
from nbllm.attention.recording.text import encode_prompt
from nbllm.engine import locks
from nbllm.engine.locks import FORWARD_LOCK, FairLock, named_work
from nbllm.engine.prompt import Part, answer_ids, enclosed, plain
from nbllm.engine.streaming import write
from nbllm.models.model import Model


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_works_step_by_step_leaves_each_other_thread_a_turn() -> None:
    """A lock of `threading` would go back to the thread that has just released it."""
    ours, order = FairLock(), []
    waiting = threading.Event()

    def once(name: str) -> None:
        with ours:
            order.append(name)

    def steps() -> None:
        for n in range(6):
            with ours:
                order.append(f"step {n}")
                if n == 0:
                    waiting.set()
                    until(lambda: len(ours._waiting) == 2)

    works = beside(steps)
    assert waiting.wait(10)
    first = beside(lambda: once("first"))
    until(lambda: len(ours._waiting) == 1)
    second = beside(lambda: once("second"))
    for thread in (works, first, second):
        thread.join(10)
    assert order[:4] == ["step 0", "first", "second", "step 1"]


def test_it_is_taken_again_by_who_has_it_and_lent_whole() -> None:
    ours, seen = FairLock(), []

    def other() -> None:
        with ours:
            seen.append("other")

    with ours, ours:
        thread = beside(other)
        until(lambda: bool(ours._waiting))
        ours.yield_to_waiting()
        assert seen == ["other"]
        thread.join(10)
        ours.yield_to_waiting()  # nobody waits
        last = beside(other)
        until(lambda: bool(ours._waiting))
        assert seen == ["other"]
    last.join(10)
    assert seen == ["other", "other"]
    ours.yield_to_waiting()  # not ours to give


def test_who_waits_for_long_is_told_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = FairLock()
    thread = threading.Thread(target=lambda: ours.__enter__() and ours.__exit__())
    with named_work("a long text"), ours:
        thread.start()
        until(lambda: bool(ours._waiting))
        assert ours.blocked_by(thread.ident) is None
        monkeypatch.setattr(locks, "_LONG", 0.0)
        until(lambda: ours.blocked_by(thread.ident) == "a long text")
        assert ours.blocked_by(threading.get_ident()) is None
    thread.join(10)
    assert ours.blocked_by(thread.ident) is None


class Stop(Exception):
    """What interrupts a thread."""


@pytest.mark.parametrize("lent", [False, True])
def test_who_is_interrupted_while_waiting_holds_up_nobody(lent: bool) -> None:
    ours, ended, go = FairLock(), [], threading.Event()

    def waits() -> None:
        try:
            with ours:
                if lent:
                    until(lambda: bool(ours._waiting))
                    ours.yield_to_waiting()
                ended.append("worked")
        except Stop:
            ended.append("stopped")

    def holds() -> None:
        with ours:
            go.wait(10)

    if lent:
        waiter = beside(waits)
        until(lambda: ours._owner == waiter.ident)
        holder = beside(holds)
    else:
        holder = beside(holds)
        until(lambda: ours._owner == holder.ident)
        waiter = beside(waits)
    until(lambda: any(place.thread == waiter.ident for place in ours._waiting))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiter.ident), ctypes.py_object(Stop))
    go.set()  # it sees the exception when its lock is opened
    waiter.join(10)
    holder.join(10)
    assert ended == ["stopped"]
    assert ours._owner is None and not ours._waiting
    with ours:
        pass


def test_a_tokenizer_waits_for_no_pass(tiny_llama: Model) -> None:
    done = []

    def tokenize() -> None:
        plain(tiny_llama.tokenizer, [Part("field", "text")])
        enclosed(tiny_llama.tokenizer, [Part("field", "text")])
        answer_ids(tiny_llama.tokenizer, ["yes"])
        done.append(True)

    with FORWARD_LOCK:
        thread = beside(tokenize)
        thread.join(10)
        assert done


@pytest.mark.parametrize("what", ["attribution", "text"])
def test_what_takes_many_passes_gives_others_theirs(
    tiny_llama: Model, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And comes to the same as alone."""
    text = "The soup was warm and the staff were kind."

    def work() -> object:
        if what == "attribution":
            return attribute(tiny_llama, text, target=5, steps=16).scores.tolist()
        return write(tiny_llama, encode_prompt(tiny_llama, text), max_new_tokens=12).text

    alone = work()
    had: list[int] = []
    over = threading.Event()

    def others() -> None:
        while not over.is_set():
            with FORWARD_LOCK:
                tiny_llama.network(input_ids=tiny_llama.network.dummy_inputs["input_ids"])
                had.append(1)

    thread = beside(others)
    until(lambda: bool(had))
    before = len(had)
    with FORWARD_LOCK:
        found = work()
    between = len(had) - before
    over.set()
    thread.join(10)
    assert found == alone
    assert between > 3

"""A forked child's engine says so, holds nothing, and the parent's goes on."""

import asyncio
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable

import pytest

from d_engine.format.errors import ForkedError
from d_engine.runtime.fork import ForkGuard, hold, release
from d_engine.runtime.thread import EngineThread
from tests.runtime.nodes import Node


async def forever() -> None:
    await asyncio.Event().wait()


def in_child(check: Callable[[], None]) -> None:
    """Run the check in a forked child; fail if it fails there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks with threads
        process = os.fork()
    if process == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_guard() -> None:
    guard = ForkGuard()
    guard.check()

    def child() -> None:
        assert guard.forked
        with pytest.raises(ForkedError):
            guard.check()
        ForkGuard().check()

    in_child(child)
    assert not guard.forked


def test_calls_in_the_child_raise_and_take_no_lock() -> None:
    engine = EngineThread()
    engine.start(forever)

    async def nothing() -> None:
        return

    def child() -> None:
        assert not engine.running
        for call in (engine.check, engine.stop, engine.join, lambda: engine.on_end(print)):
            with pytest.raises(ForkedError):
                call()
        with pytest.raises(ForkedError):
            engine.run(forever())

    with engine._lock:
        in_child(child)
    engine.run(nothing()).result(10)
    engine.stop()
    assert engine.join(10)


def test_the_child_lets_go_of_what_was_held() -> None:
    one, two = socket.socketpair()
    number = one.fileno()
    hold(number)

    def child() -> None:
        assert os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev
        assert not os.get_inheritable(number)
        assert os.fstat(two.fileno()).st_rdev == 0

    in_child(child)
    one.close()
    release(number)
    release(number)
    two.close()


def test_a_number_that_stands_for_something_else_is_left_alone() -> None:
    one, two = socket.socketpair()
    number = one.fileno()
    hold(number)
    one.close()
    file = os.open(__file__, os.O_RDONLY)
    assert file == number

    def child() -> None:
        assert os.fstat(file).st_size

    in_child(child)
    release(number)
    os.close(file)
    two.close()


def test_the_listen_address_is_free_when_only_the_child_is_left() -> None:
    """What the child inherited would otherwise keep the port taken."""
    engine = EngineThread()
    engine.start(forever)

    async def make() -> Node:
        return await Node(1).start()

    node = engine.run(make()).result(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        near, far = socket.socketpair()
        process = os.fork()
    if process == 0:
        far.sendall(b"r")
        near.close()
        far.recv(1)  # until the parent is done
        os._exit(0)
    far.close()
    assert near.recv(1) == b"r"

    async def stop() -> None:
        node.stop()

    engine.run(stop()).result(10)
    host, port = node.address.rsplit(":", 1)
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((host, int(port)))
    near.close()
    assert os.waitpid(process, 0)[1] == 0
    engine.stop()
    assert engine.join(10)

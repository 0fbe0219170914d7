"""Which endpoint comes first."""

import pytest

from d_engine.client.api import MemberInfo
from d_engine.client.endpoints import RECENT_SECONDS, Endpoints, parse_endpoints
from d_engine.format.errors import ConfigError, UnavailableError

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "unix:/c"
DOWN = UnavailableError("down")


def test_texts_and_sequences_are_read() -> None:
    assert parse_endpoints(f"{A}, {B},{A}") == [A, B]
    assert parse_endpoints([C, A]) == [C, A]
    nothings: list[str | list[str]] = ["", " , ", []]
    for nothing in nothings:
        with pytest.raises(ConfigError):
            parse_endpoints(nothing)


def test_what_failed_comes_last_and_the_oldest_failure_first() -> None:
    endpoints = Endpoints([A, B, C])
    assert endpoints.order(0) == [A, B, C]
    endpoints.failed(A, DOWN, 1)
    assert endpoints.order(1) == [B, C, A]
    endpoints.failed(B, DOWN, 2)
    endpoints.failed(C, DOWN, 3)
    assert endpoints.order(3) == [A, B, C]
    assert endpoints.describe() == f"{A}: down; {B}: down; {C}: down"


def test_the_leader_comes_first_unless_it_failed_just_now() -> None:
    endpoints = Endpoints([A])
    endpoints.leader = 2
    assert endpoints.leader_address is None
    endpoints.learn([MemberInfo(1, A, "voter"), MemberInfo(2, B, "voter"), MemberInfo(3, "", "learner")])
    assert endpoints.order(0) == [B, A]
    endpoints.failed(B, DOWN, 10)
    assert endpoints.order(10) == [A, B]
    assert endpoints.order(10 + RECENT_SECONDS) == [B, A]


def test_members_that_left_are_forgotten_but_not_what_was_given() -> None:
    endpoints = Endpoints([A])
    endpoints.learn([MemberInfo(2, B, "voter")])
    endpoints.learn([MemberInfo(3, C, "voter")])
    assert endpoints.order(0) == [A, C]


def test_without_discovery_nobody_else_is_learned() -> None:
    endpoints = Endpoints([A], discover=False)
    endpoints.leader = 2
    endpoints.learn([MemberInfo(2, B, "voter")])
    assert endpoints.leader_address is None
    assert endpoints.order(0) == [A]

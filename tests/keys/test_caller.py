"""Who is calling, and what they may do."""

from __future__ import annotations

import asyncio

import pytest

from rows import rows
from tts_provider.errors import ScopeTooSmall
from tts_provider.keys.caller import (
    ANONYMOUS,
    GUEST,
    SCOPES,
    STRANGER,
    Caller,
    acting,
    caller_of,
    current_caller,
    require,
    with_caller,
)

ANNA = Caller("anna", frozenset({"speak", "voices"}))


@rows("scope", SCOPES)
def test_only_the_scopes_that_it_has_are_a_callers(scope):
    assert ANONYMOUS.may(scope)
    assert ANNA.may(scope) == (scope in ("speak", "voices"))
    assert GUEST.may(scope) == (scope == "speak")
    assert not STRANGER.may(scope)


def test_a_route_hears_who_calls_or_says_what_is_missing():
    scope = with_caller({"type": "http"}, ANNA)
    assert caller_of(scope) is ANNA
    assert require(scope, "speak") is ANNA
    assert require(scope, "jobs", "voices") is ANNA
    with pytest.raises(ScopeTooSmall) as caught:
        require(scope, "jobs")
    problem = caught.value
    assert (problem.code, problem.http_status) == ("scope_too_small", 403)
    assert "'anna' lacks the scope jobs" in problem.message
    assert "it has speak, voices" in problem.message


def test_a_route_that_no_key_check_guards_fails_closed():
    with pytest.raises(KeyError):
        require({"type": "http"}, "speak")


@rows(
    ("caller", "owner", "is_shared", "sees", "changes"),
    [
        (ANNA, "anna", False, True, True),
        (ANNA, "ben", False, False, False),
        (ANNA, "ben", True, True, False),
        (ANNA, None, False, False, False),
        (ANNA, None, True, True, False),
        (ANONYMOUS, "ben", False, True, True),
        (GUEST, "ben", False, False, False),
        (GUEST, "ben", True, True, False),
    ],
)
def test_what_somebody_made_is_theirs(caller, owner, is_shared, sees, changes):
    assert caller.may_see(owner, is_shared=is_shared) == sees
    assert caller.owns(owner) == changes


async def test_tasks_act_for_whom_they_were_started():
    async def who() -> Caller:
        await asyncio.sleep(0)
        return current_caller()

    with acting(ANNA):
        hers = asyncio.create_task(who())
    others = asyncio.create_task(who())
    assert await hers is ANNA
    assert await others is ANONYMOUS

"""An engine around another one tells and does what that one does."""

from __future__ import annotations

import inspect

import pytest

from tts_provider.engines.wrapper import WrapperEngine
from tts_provider.speech.engine import Engine

# Of another sample rate there is no engine.
FACTS = {*Engine.__annotations__} | {
    n for n, fact in vars(Engine).items() if isinstance(fact, bool)
}
ASKED = [
    name
    for name, member in vars(Engine).items()
    if not name.startswith("_") and (callable(member) or isinstance(member, property))
]


class Within:
    """Says of everything that it was asked."""

    def __getattr__(self, name: str):
        return f"its {name}"


def test_facts_are_those_of_the_engine_within():
    assert {"name", "speeds", "collectors", "takes_prompts", "own_max_streams"} <= FACTS
    wrapper = WrapperEngine(Within())
    assert {name: getattr(wrapper, name) for name in FACTS} == {n: f"its {n}" for n in FACTS}


@pytest.mark.parametrize("name", ASKED)
async def test_whatever_an_engine_is_asked_the_engine_within_is(name):
    asked = []

    class Noting(Within):
        def __getattr__(self, member: str):
            def note(*arguments):
                asked.append((member, arguments))
                return answered() if inspect.iscoroutinefunction(getattr(Engine, name)) else member

            return note

    async def answered():
        return name

    wrapper = WrapperEngine(Noting())
    member = vars(Engine)[name]
    if isinstance(member, property):
        assert getattr(wrapper, name)() == name
        return
    arguments = tuple(f"{parameter}" for parameter in [*inspect.signature(member).parameters][1:])
    result = getattr(wrapper, name)(*arguments)
    if inspect.isawaitable(result):
        result = await result
    assert asked == [(name, arguments)]
    assert result in (name, None)

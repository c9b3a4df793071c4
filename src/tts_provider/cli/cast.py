"""`tts-provider say --cast`: who speaks for whom in a script."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tts_provider.client import SpokenWord
from tts_provider.errors import StartupError
from tts_provider.speech.structure.script import NARRATOR, read_script

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SETTINGS: Mapping[str, tuple[type, ...]] = {
    "voice": (str,),
    "speaker": (int,),
    "speed": (int, float),
    "temperature": (int, float),
    "top_k": (int,),
    "seed": (int,),
}
_MOST_NAMED = 8
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Role:
    """One of the script's people."""

    name: str
    """As the cast has it."""
    settings: Mapping[str, Any]
    """Fields of a turn: who speaks for them, and how."""


@dataclass(frozen=True)
class ScriptTurn:
    """What a request says of a turn, and whose it is."""

    name: str
    text: str
    settings: Mapping[str, Any]

    def request(self) -> dict[str, Any]:
        return {"text": self.text, **self.settings}


def load_cast(path: str) -> Mapping[str, Role]:
    """Names in lower case → their roles. Raises `StartupError` where the file cannot be read or
    says what no turn can have."""
    try:
        told = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StartupError(f"{path} is no TOML: {error}") from None
    roles = {}
    for name, settings in told.items():
        if name.lower() in roles:
            raise StartupError(f"{path} has {name} twice; names are the same in any case")
        roles[name.lower()] = Role(name, _read_role(path, name, settings))
    if not roles:
        raise StartupError(f'{path} has nobody; it has lines like ANNA = "female"')
    return roles


def _read_role(path: str, name: str, settings: Any) -> Mapping[str, Any]:
    if isinstance(settings, str):
        return {"voice": settings}
    if not isinstance(settings, dict):
        raise StartupError(f"{path}: {name} must be a voice, or a table with one")
    for key, value in settings.items():
        if key not in _SETTINGS:
            known = ", ".join(_SETTINGS)
            raise StartupError(f"{path}: {name} has no {key!r}; there are {known}")
        if not isinstance(value, _SETTINGS[key]) or isinstance(value, bool):
            kind = " or ".join(kind.__name__ for kind in _SETTINGS[key])
            raise StartupError(f"{path}: {name}'s {key} must be {kind}; got {value!r}")
    if "voice" not in settings and "speaker" not in settings:
        raise StartupError(f"{path}: {name} needs a voice or a speaker")
    return settings


def cast_script(text: str, cast: Mapping[str, Role]) -> Sequence[ScriptTurn]:
    """The turns of a script. Raises `StartupError` naming all who have no voice, with their lines,
    or where there is nothing to say."""
    turns, missing = list[ScriptTurn](), dict[str, int]()
    for line in read_script(text):
        role = cast.get((line.name or NARRATOR).lower())
        if role is None:
            missing.setdefault(line.name, line.number)
            continue
        turns.append(ScriptTurn(role.name, line.text, role.settings))
    if missing:
        raise StartupError(_say_missing(missing))
    if not turns:
        raise StartupError("the script has nothing to say; it has lines like ANNA: Hello.")
    return turns


def _say_missing(missing: Mapping[str, int]) -> str:
    named = [f"{name} (line {number})" for name, number in missing.items() if name]
    if not named:
        return f"line {missing['']} stands under no name, and the cast has no {NARRATOR}"
    shown, more = ", ".join(named[:_MOST_NAMED]), len(named) - _MOST_NAMED
    others = f" and {more} more" if more > 0 else ""
    return f"the cast has no voice for {shown}{others}; a line that is no name is indented"


def join_turns(
    turns: Sequence[ScriptTurn], words: Sequence[SpokenWord]
) -> tuple[str, list[SpokenWord]]:
    """All turns as one text, a paragraph each, and their words in it, said by whom the script
    names."""
    starts = [0]
    for turn in turns:
        starts.append(starts[-1] + len(turn.text) + len(_BETWEEN))
    joined = [
        replace(
            word,
            start=starts[word.turn] + word.start,
            end=starts[word.turn] + word.end,
            voice=turns[word.turn].name,
        )
        for word in words
        if word.turn is not None
    ]
    return _BETWEEN.join(turn.text for turn in turns), joined

"""Reads the bodies of `/v1/audio/speech` and `/v1/audio/dialogue`: what to speak, and how."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tts_provider.audio.encode.encode import Output
from tts_provider.audio.pcm import SAMPLE_RATES
from tts_provider.audio.tempo import FASTEST, SLOWEST
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, part_named
from tts_provider.server.dialects.dialogue import (
    FindVoice,
    TurnRequest,
    check_characters,
    check_turns,
    make_turns,
)
from tts_provider.server.dialects.fields import check_text, no_text
from tts_provider.server.service.defaults import Defaults
from tts_provider.speech.dialogue import LONGEST_PAUSE_MS, PAUSE_MS, Dialogue
from tts_provider.speech.engine import Manner, Utterance
from tts_provider.speech.lexicon import read_pronunciations
from tts_provider.speech.reading import ReadingOptions
from tts_provider.speech.structure.blocks import NotSpeech

ResponseFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "mulaw", "alaw"]

_MAX_SEED = 2**53 - 1  # RFC 8259 section 6: clients and documents round numbers above it
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,18})?")
_TEXT = r"^[^\u0000-\u0008\u000e-\u001f\u007f-\u009f]+$"


def _read_number(value: Any) -> Any:
    """A number that a client sends as the text that was typed."""
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    return float(value) if is_number else value


def _or_a_numeric_string(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "pattern": f"^{_NUMBER.pattern}$"})


def _one_of_the_rates(schema: dict[str, Any]) -> None:
    schema["anyOf"][0]["enum"] = list(SAMPLE_RATES)


_ANY_CASE = BeforeValidator(
    lambda value: value.strip().lower() if isinstance(value, str) else value
)
_CONFIG = ConfigDict(strict=True, hide_input_in_errors=True)


class VoiceId(BaseModel):
    id: str


class Delivery(BaseModel):
    """How a text is said."""

    model_config = _CONFIG

    speed: (
        Annotated[
            float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False), BeforeValidator(_read_number)
        ]
        | None
    ) = Field(
        None,
        json_schema_extra=_or_a_numeric_string,
        description="2 takes half the time; the pitch stays. 1 by default.",
    )
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] | None = Field(
        None, description="Same seed, same audio. Not in OpenAI's API."
    )
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = Field(
        None, description="0 is greedy. Not in OpenAI's API."
    )
    top_k: Annotated[int, Field(ge=1, le=2048)] | None = Field(
        None, description="Not in OpenAI's API."
    )

    def manner(self, other: Manner) -> Manner:
        """The manner of this text; fields that are left out are as in `other`."""
        return Manner(
            temperature=other.temperature if self.temperature is None else self.temperature,
            top_k=other.top_k if self.top_k is None else self.top_k,
            seed=other.seed if self.seed is None else self.seed,
            speed=other.speed if self.speed is None else self.speed,
            word_times=other.word_times,
        )


class SpeechOptions(Delivery):
    """What a text and a dialogue have in common."""

    model: str | None = Field(None, description="Any name; this server has one model.")
    response_format: Annotated[ResponseFormat, _ANY_CASE] | None = Field(
        None,
        description="mp3 by default; pcm is 16-bit, mono, without a header. mulaw and alaw are not "
        "in OpenAI's API.",
    )
    sample_rate: int | None = Field(
        None,
        json_schema_extra=_one_of_the_rates,
        description="Samples a second, 24000 by default; opus has no 11025, 22050, 32000 and "
        "44100. Not in OpenAI's API.",
    )
    stream_format: Annotated[Literal["audio", "sse"], _ANY_CASE] | None = Field(
        None, description="audio (default): the file; sse: events with pieces of it in base64."
    )
    timestamp_granularities: list[Literal["word"]] | None = Field(
        None,
        description="When each word is spoken, in events: needs stream_format sse. OpenAI has this "
        "for transcriptions.",
    )
    instructions: str | None = Field(
        None, description="Accepted and ignored: no model here takes any."
    )
    ssml: bool | None = Field(
        None, description="The text is SSML, a subset: docs/text.md. Not in OpenAI's API."
    )
    read_aloud: list[NotSpeech] | None = Field(
        None, description="What is to be spoken although it is no speech. Not in OpenAI's API."
    )
    voice_tags: bool | None = Field(
        None, description="[voice:name] in the text says who speaks. Not in OpenAI's API."
    )
    pronunciations: dict[str, str] | None = Field(
        None,
        description="Words and how they are said, as other words or /IPA/. Not in OpenAI's API.",
    )

    def reading(self) -> ReadingOptions:
        """Raises `InvalidRequest`."""
        return ReadingOptions(
            ssml=self.ssml or False,
            aloud=frozenset(self.read_aloud or ()),
            voice_tags=self.voice_tags or False,
            lexicon=read_pronunciations(self.pronunciations or {}),
        )

    def output(self, defaults: Defaults) -> Output:
        """Not every format exists at every rate."""
        return defaults.output("openai", self.response_format, self.sample_rate, own="mp3")

    def own_manner(self, defaults: Defaults) -> Manner:
        word_times = bool(self.timestamp_granularities)
        return self.manner(Manner(speed=defaults.speed, word_times=word_times))

    def asked(self, find_voice: FindVoice, defaults: Defaults) -> Utterance | Dialogue:
        """Raises `InvalidRequest` if there is no such voice."""
        raise NotImplementedError


class SpeechRequest(SpeechOptions):
    """A text to speak. Fields that are not listed are ignored; null counts as not given."""

    model_config = ConfigDict(title="SpeechRequest")

    input: str = Field(
        description="What to say, without control characters.",
        min_length=1,
        json_schema_extra={"pattern": _TEXT},
    )
    voice: str | VoiceId | None = Field(
        None, description="A voice id, or one of OpenAI's names; by default the male voice."
    )

    @property
    def voice_id(self) -> str | None:
        return _id_of(self.voice)

    def asked(self, find_voice: FindVoice, defaults: Defaults) -> Utterance:
        return Utterance(self.input, find_voice(self.voice_id, None), self.own_manner(defaults))


class DialogueTurn(Delivery):
    """What one voice says; how, where the request says something else."""

    text: str = Field(
        description="What to say, without control characters.",
        min_length=1,
        json_schema_extra={"pattern": _TEXT},
    )
    voice: str | VoiceId | None = Field(
        None, description="A voice id, or one of OpenAI's names; by default the speaker's."
    )
    speaker: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Instead of a voice: 0 (default) or 1."
    )


class DialogueRequest(SpeechOptions):
    """Turns to speak one after the other. Fields that are not listed are ignored; null counts as
    not given."""

    model_config = ConfigDict(title="DialogueRequest")

    turns: list[DialogueTurn] = Field(description="Who says what, in order.", min_length=1)
    pause_ms: Annotated[int, Field(ge=0, le=LONGEST_PAUSE_MS)] | None = Field(
        None, description=f"Between two turns; {PAUSE_MS} by default."
    )

    def asked(self, find_voice: FindVoice, defaults: Defaults) -> Dialogue:
        manner = self.own_manner(defaults)
        turns = [
            TurnRequest(turn.text, turn.speaker, _id_of(turn.voice), turn.manner(manner))
            for turn in self.turns
        ]
        pause_ms = PAUSE_MS if self.pause_ms is None else self.pause_ms
        return Dialogue(make_turns(turns, find_voice), pause_ms / 1000)


def _id_of(voice: str | VoiceId | None) -> str | None:
    return voice.id if isinstance(voice, VoiceId) else voice


_Options = TypeVar("_Options", bound=SpeechOptions)


def read_speech(body: bytes | Mapping[str, str], limits: Limits) -> SpeechRequest:
    """Read a request from JSON or a form's fields, of which an empty one counts as not given.
    Raises `InvalidRequest`."""
    request = _read(SpeechRequest, body, "input")
    _check(request.input, limits, "input")
    return request


def read_dialogue(body: bytes, limits: Limits) -> DialogueRequest:
    """Read a dialogue from JSON. Raises `InvalidRequest`, which names the turn."""
    request = _read(DialogueRequest, body, "turns")
    check_turns(len(request.turns), limits)
    for number, turn in enumerate(request.turns):
        with part_named(f"turns[{number}]"):
            _check(turn.text, limits, "text")
    check_characters(sum(len(turn.text) for turn in request.turns), limits)
    return request


def _check(text: str, limits: Limits, name: str) -> None:
    if not text.strip():
        raise no_text(f"{name} is blank; send a text", name)
    check_text(text, limits, name)


def _read(kind: type[_Options], body: bytes | Mapping[str, str], needed: str) -> _Options:
    """Raises `InvalidRequest`."""
    try:
        if isinstance(body, bytes):
            request = kind.model_validate_json(body.removeprefix(codecs.BOM_UTF8))
        else:
            given = {name: value for name, value in body.items() if value or name == needed}
            request = kind.model_validate_strings(given)
    except ValidationError as error:
        raise _as_invalid_request(error) from None
    if request.timestamp_granularities and request.stream_format != "sse":
        raise InvalidRequest(
            "timestamp_granularities needs stream_format sse: a file has no room for words",
            code="invalid_value",
            param="timestamp_granularities",
        )
    return request


def _as_invalid_request(error: ValidationError) -> InvalidRequest:
    """The first error, in one sentence."""
    problem = error.errors(include_url=False)[0]
    kind, where, message = problem["type"], problem["loc"], problem["msg"]
    if kind == "json_invalid":
        reason = message.removeprefix("Invalid JSON: ")
        return InvalidRequest(f"Invalid JSON format: {reason}", code="invalid_json")
    if not where:
        return InvalidRequest("the body must be a JSON object", code="invalid_type")
    name, field = _name_of(where)
    if kind in ("missing", "string_too_short", "too_short") and field in ("input", "turns", "text"):
        what = "what is said, by whom" if field == "turns" else "the text to speak"
        return no_text(f"{name} is needed: {what}", name)
    if field == "voice":
        message = 'Input should be a string or an object {"id": "..."}'
    got = json.dumps(problem["input"], default=str)
    sentence = message.replace("Input should be", f"{name} must be")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return InvalidRequest(f"{sentence}; got {got[:60]}", code=code, param=name)


def _name_of(where: Sequence[int | str]) -> tuple[str, str]:
    """The name of a field in errors, and its name where it stands; the rest of the location says as
    which of several types it was read."""
    if len(where) > 1 and where[0] == "turns":
        turn = f"turns[{where[1]}]"
        return (turn, "turn") if len(where) == 2 else (f"{turn}.{where[2]}", str(where[2]))
    return str(where[0]), str(where[0])

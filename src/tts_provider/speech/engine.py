"""The contract between the server and the engines that speak.

The server knows sockets and text; an engine knows a voice and samples. Nothing passes between them
but what this file defines.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from tts_provider.errors import InvalidRequest, WireError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

SAMPLE_RATE = 24_000
"""Samples a second of every engine."""

CODE_SAMPLES = 1920
"""That one frame of `Spoken.codes` stands for: Mimi has 12.5 a second."""

MOST_HEARD = 16
"""Segments that a `History` keeps."""
_HEARD = 4  # of one voice: more of its own output muffles it

Residency = Literal["loaded", "loading", "unloaded"]
"""Where a model is: in memory, on its way there, or not until somebody asks for it."""

Samples = npt.NDArray[np.float32]
"""Mono audio in [-1, 1], shape (n,)."""


def to_ms(samples: int) -> int:
    """Convert a number of samples to whole milliseconds."""
    return samples * 1000 // SAMPLE_RATE


@dataclass(frozen=True)
class Voice:
    id: str
    name: str
    gender: Literal["male", "female", "unknown"]
    source: str
    speaker: int | None = None
    """The number by which `speaker` at the basic endpoint selects this voice."""
    language: str = "en"
    """What it speaks, as a tag of BCP 47."""
    has_adapter: bool = False
    """Whether an adapter (LoRA) of its own speaks in it."""


@dataclass(frozen=True)
class Spoken:
    """A segment that was spoken, in the form in which an engine remembers it."""

    text: str
    speaker: int
    codes: npt.NDArray[np.int64]  # (frames, codebooks)
    voice: str = ""
    """The id of the voice that said it; empty where it was somebody else."""


@dataclass
class History:
    """What was said before on the same timeline. An engine that can use it adds to it."""

    segments: list[Spoken] = field(default_factory=list)
    """The last ones."""
    count: int = 0
    """How many there were."""
    heard: int = _HEARD
    """So many of the last ones an engine hears, as far as it has room for them."""

    def add(self, spoken: Spoken) -> None:
        self.segments = [*self.segments[1 - MOST_HEARD :], spoken]
        self.count += 1


@dataclass(frozen=True)
class Phonemes:
    """The pronunciation of the characters from `start` to before `end`."""

    start: int
    end: int
    ipa: str


@dataclass(frozen=True)
class Manner:
    """How a client wants text to be spoken, whatever the text and the voice."""

    temperature: float | None = None
    """0 is greedy; None is the engine's own default."""
    top_k: int | None = None
    seed: int | None = None
    """Same seed, same audio; None draws one."""
    speed: float = 1.0
    """2 takes half the time; the pitch stays. An engine is asked within its own `speeds`."""
    max_audio_ms: int | None = None
    word_times: bool = False
    """Whether somebody wants `Word`s; an engine that has them anyway may ignore it."""


@dataclass(frozen=True)
class Utterance:
    """One stretch of text to speak in one voice."""

    text: str
    voice: Voice
    manner: Manner = field(default_factory=Manner)
    history: History = field(default_factory=History, compare=False)
    begun: bool = False
    """Something of its timeline was spoken before: it waits where a new one would be refused."""
    ahead_s: float | None = None
    """How far ahead of its listener the audio may be; None where nobody listens meanwhile."""
    phonemes: tuple[Phonemes, ...] = ()
    """How parts of the text are pronounced, in order; who takes none says the text."""
    is_background: bool = False
    """Nobody is waiting for it: it is computed with what those who listen leave."""


@dataclass(frozen=True)
class Word:
    """When a word is spoken, and where it is in the text.

    An engine reports the words that it was given, in its own sound. After the pipeline it is a
    written word on the timeline: `$5` and `1 234` are one word each, though several are spoken.
    """

    start: int
    """In samples."""
    end: int
    text_start: int
    """Characters from here to before `text_end`; of what was written, with its markup."""
    text_end: int
    is_estimated: bool = False
    """It was found afterwards: the engine does not say when it speaks a word."""
    text: str = ""
    """As it was written, without markup, with the punctuation that it touches; an engine need not
    say it."""
    voice: str = ""
    """The id of who says it, where that is not the only voice."""
    turn: int | None = None
    """Of a dialogue: its places in the text are those in this turn's."""

    @property
    def start_ms(self) -> int:
        return to_ms(self.start)

    @property
    def end_ms(self) -> int:
        return to_ms(self.end)

    def moved(self, samples: int, characters: int = 0) -> Word:
        """The same word, where so much comes before it."""
        return replace(
            self,
            start=self.start + samples,
            end=self.end + samples,
            text_start=self.text_start + characters,
            text_end=self.text_end + characters,
        )


@dataclass(frozen=True)
class Sound:
    """The next piece of an utterance's sound, as long as it was made in one go."""

    samples: Samples  # (n,) float32, 24 kHz
    words: tuple[Word, ...] = ()
    """Those that are known now and were not before, in order; an engine need not have any."""

    def moved(self, samples: int, characters: int = 0) -> Sound:
        """The same of a longer utterance, where so much comes before it."""
        return replace(self, words=tuple(word.moved(samples, characters) for word in self.words))


class Engine(ABC):
    """Speaks any number of utterances at once."""

    name: str
    model: str
    device: str
    precision: str
    sample_rate = SAMPLE_RATE
    speeds: tuple[float, float] = (1.0, 1.0)
    """The slowest and the fastest that the engine itself can speak; `audio.tempo` does the rest."""
    letters_per_s = 16.0
    """Letters of words that it says in a second of prose, pauses between sentences included: no
    slower than it speaks, since a text is refused by what it would come to."""
    takes_prompts = False
    """Whether it speaks in voices that were enrolled from a recording, `source` "enrolled"."""
    takes_acts = False
    """Whether it acts what a text tells its speaker to do, `[sighs]`, instead of saying it."""

    repeats = False
    """Whether the same utterance always has the same samples, in any process of this release on the
    same kind of processor: what one was saying another can go on with."""

    own_max_streams: int | None = None
    """How many streams it can speak in real time here; None where the server's default is right."""

    collectors: Sequence[Collector] = ()
    """What it counts, for Prometheus."""

    @abstractmethod
    def voices(self) -> Sequence[Voice]:
        """The voices; empty if they are not known before `load` returns."""

    @property
    def problem(self) -> WireError | None:
        """Why the loaded engine cannot speak now; None if it can."""
        return None

    @property
    def residency(self) -> Residency:
        """After `load`: whether the model is in memory. If it is not, `speak` waits for it."""
        return "loaded"

    async def wait_lost(self) -> None:
        """Return once the device is lost and only another process can speak; normally never.
        `problem` says why."""
        await asyncio.Event().wait()

    def mixture(self, name: str) -> Voice | None:
        """The voice that mixes some of `voices` and has this name; None if the name is not a
        mixture. Raises `InvalidRequest` for a mixture that is not possible."""
        return None

    def of(self, voice: Voice) -> Engine:
        """The engine that speaks in this voice: itself, or the part of it to which `speeds`,
        prompts and memory belong."""
        return self

    def can_read(self, voice: Voice) -> bool:
        """Whether the packages that read the language of this voice are installed."""
        return True

    def can_speak_early(self, voice: Voice) -> bool:
        """Whether `speak` may be called for this voice before `load` has returned."""
        return False

    @abstractmethod
    async def load(self, on_progress: Callable[[str], None]) -> None:
        """Load the model into memory and warm it up, without blocking the event loop."""

    @abstractmethod
    def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        """Yield the sound as it is made, in pieces of any length; `speech.pipeline` cuts it.

        Closing the iterator cancels the work within two engine steps. The text is the words of one
        passage of `speech.reading`. Raises `EngineFailed` if the engine breaks.
        """

    async def listen(self, text: str, speaker: int, samples: Samples) -> Spoken:
        """Turn what somebody said, words and samples (n,) at 24 kHz, into a part of a `History`.

        Raises `InvalidRequest` if the engine does not use what was said before.
        """
        raise InvalidRequest(
            f"the engine {self.name} does not use what was said before; docs/voices.md says which "
            "does",
            code="context_needs_csm",
        )

    @abstractmethod
    async def close(self) -> None:
        """Free threads and memory, and end running utterances. `voices` and `mixture` still
        answer."""

"""The contract of a dialect: one connection's messages ⇄ what is asked and what happens.

A dialect translates and does nothing else, so it is tested with plain values. `contexts.py` cuts
text and keeps limits; in `connections/`, `pump.py` has the socket and `timeline.py` speaks. A
dialect knows neither of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tts_provider.audio.encode.encode import Output
from tts_provider.config import Limits
from tts_provider.errors import WireError
from tts_provider.server.service.defaults import Defaults
from tts_provider.server.service.service import Said
from tts_provider.speech.engine import SAMPLE_RATE, Manner, Voice, Word
from tts_provider.speech.reading import AS_WRITTEN, ReadingOptions

_PCM = Output("pcm", SAMPLE_RATE)


@dataclass(frozen=True)
class ContextSettings:
    """What a context is made with."""

    voice: Voice
    output: Output = _PCM
    """Its format is one that can be cut."""
    audio: Literal["base64", "binary"] = "base64"
    """How a dialect that has both sends it."""
    max_ahead_s: float | None = None
    """How far ahead of its listener it may speak; None is the server's limit."""
    clause_pause_s: float | None = None
    """How long a writer pauses before a clause is spoken; None is the server's limit."""
    manner: Manner = field(default_factory=Manner)
    reading: ReadingOptions = AS_WRITTEN
    """How the client wants its text to be read."""


# What a message asks for


@dataclass(frozen=True)
class Opening:
    """How a context begins, where a message is its first."""

    settings: ContextSettings
    is_first: bool = False
    """The message says what only the first may say: it is refused where there is the context."""
    continues: str | None = None
    """The context, over by now, whose conversation this one goes on with: the engine remembers
    what was said there, as far as it was heard."""


@dataclass(frozen=True)
class Append:
    """More text of a context, which begins where it is not there yet."""

    context_id: str
    text: str
    """Any piece: half a word, half a surrogate pair."""
    opening: Opening


@dataclass(frozen=True)
class ChangeVoice:
    """Who says what comes next in a context; nothing where it is not there yet, since what begins
    it says so too."""

    context_id: str
    voice: Voice


@dataclass(frozen=True)
class Listen:
    """The other side of the conversation spoke."""

    context_id: str
    said: Said
    opening: Opening


@dataclass(frozen=True)
class Flush:
    """Speak what is there; `Flushed` tells when it was spoken."""

    context_id: str
    flush_id: str | None = None
    may_be_empty: bool = False
    """It is answered where there is no text since the last one too; else that is refused."""


@dataclass(frozen=True)
class End:
    """No more text: `Done` follows when all is spoken."""

    context_id: str


@dataclass(frozen=True)
class Cancel:
    """Stop, and drop what is left: `Cancelled` follows, and no audio after it."""

    context_id: str


@dataclass(frozen=True)
class Interrupt:
    """Stop: the listener speaks, having heard so much of the timeline; `Interrupted` follows, and
    no audio after it. It may come when all was spoken, since what was sent is heard later."""

    context_id: str
    played_ms: int


@dataclass(frozen=True)
class Update:
    """The settings of contexts to come are these now: `Updated` follows."""

    settings: ContextSettings


@dataclass(frozen=True)
class Refuse:
    """The message cannot be served: `Problem` follows, and the connection goes on."""

    error: WireError
    context_id: str | None = None


@dataclass(frozen=True)
class Close:
    """Nothing more will be asked: close when all that was is spoken."""


@dataclass(frozen=True)
class Answer:
    """What needs no speech is answered at once, with these messages."""

    messages: Sequence[str | bytes]


ContextAction = Append | ChangeVoice | Listen | Flush | End | Cancel | Interrupt
Action = ContextAction | Update | Refuse | Close | Answer


# What happens; times are milliseconds on the context's own timeline, which has no gaps


@dataclass(frozen=True)
class Greeting:
    """The connection is accepted."""

    session_id: str
    engine: str
    voices: Sequence[Voice]
    limits: Mapping[str, float]


@dataclass(frozen=True)
class EngineLoading:
    """The model loads; what is asked meanwhile waits."""


@dataclass(frozen=True)
class Updated:
    settings: ContextSettings


@dataclass(frozen=True)
class Begun:
    """There is this context now: the first message of it, or some of that, was taken."""

    context_id: str


@dataclass(frozen=True)
class Audio:
    """A stretch of the timeline as bytes of the context's format."""

    context_id: str
    settings: ContextSettings
    start_ms: int
    end_ms: int
    data: bytes


@dataclass(frozen=True)
class SegmentDone:
    """This text was spoken here; its audio was sent."""

    context_id: str
    text: str
    start_ms: int
    end_ms: int
    voice: str = ""
    """Who said it, where that is not the only voice."""


@dataclass(frozen=True)
class Words:
    """These words are spoken in audio that was sent."""

    context_id: str
    words: Sequence[Word]


@dataclass(frozen=True)
class Flushed:
    context_id: str
    flush_id: str | None


@dataclass(frozen=True)
class Done:
    context_id: str
    audio_ms: int


@dataclass(frozen=True)
class Cancelled:
    context_id: str
    audio_ms: int


@dataclass(frozen=True)
class Interrupted:
    """The context is over, and this much of its text was heard; the rest was not."""

    context_id: str
    played_ms: int
    heard: str
    unheard: str


@dataclass(frozen=True)
class Problem:
    """Something failed: what a message asked of a context, the context itself, or the connection
    where there is none."""

    error: WireError
    context_id: str | None = None
    is_over: bool = False
    """The context is over: its `Done` is next."""


Event = (
    Greeting
    | EngineLoading
    | Updated
    | Begun
    | Audio
    | Words
    | SegmentDone
    | Flushed
    | Done
    | Cancelled
    | Interrupted
    | Problem
)


@dataclass(frozen=True)
class Handshake:
    """What a dialect may know of the connection it is for."""

    limits: Limits
    find_voice: Callable[[str | None], Voice]
    """Raises `InvalidRequest` where there is none; None is the default voice."""
    path: Mapping[str, str] = field(default_factory=dict)
    """The route's parameters."""
    query: Mapping[str, str] = field(default_factory=dict)
    show_key: Callable[[str], None] | None = None
    """Where a key is needed and none came before: lets its owner in. Raises `Unauthorized`."""
    defaults: Defaults = field(default_factory=Defaults)


class Dialect(ABC):
    """One connection's translator."""

    name: ClassVar[str]
    """The endpoint, in metrics and in the log."""
    takes_audio: ClassVar[bool] = False
    """Whether a message may be as large as `max_audio_message_bytes`."""
    takes_key: ClassVar[bool] = False
    """Whether a key may come in a message: then the connection is let in without one."""
    idle_timeout_s: float | None = None
    """What this connection wants instead of the server's limit, where that is longer."""

    @abstractmethod
    def __init__(self, handshake: Handshake) -> None:
        """Raises `WireError`, which is told before the connection is closed."""

    @property
    def kept_bytes(self) -> int:
        """What it keeps of its client itself, beside what contexts are made of: it counts in
        `max_waiting_bytes`."""
        return 0

    @property
    def is_for_stranger(self) -> bool:
        """Whether its client has still to show a key."""
        return False

    @abstractmethod
    def receive(self, message: str) -> Sequence[Action]:
        """What one text message asks for. Actions are done in order; the first that cannot be done
        is a `Problem`, and of the rest only an `End` is done, where there is its context."""

    @abstractmethod
    def write(self, event: Event) -> Sequence[str | bytes]:
        """The messages, text or binary, that tell of it; they leave together."""

    def follow(self, event: Event) -> Sequence[Action]:
        """What is to be done now that this was told, where a client asks for one thing while
        another is spoken and the service does one after the other."""
        return ()

    def close_code(self, problem: Problem) -> int | None:
        """The code that the service closes the connection with once this was told; None where it
        goes on."""
        return None

"""The contract of a dialect: it translates one connection's messages to actions, and events to
messages.

A dialect only translates, so its tests use plain values. `contexts.py` cuts text and enforces
limits; in `connections/`, `pump.py` has the socket and `timeline.py` speaks. A dialect knows
neither of them.
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
    """The settings with which a context begins."""

    voice: Voice
    output: Output = _PCM
    """The format of the audio, which must be one that can be cut."""
    audio: Literal["base64", "binary"] = "base64"
    """How to send the audio, in a dialect that has both ways."""
    max_ahead_s: float | None = None
    """How far ahead of its listener the context may speak; None is the server's limit."""
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
    """The message has a field that only the first may have: it is refused if the context exists."""
    continues: str | None = None
    """The finished context whose conversation this one continues: the engine remembers what was
    said there, as far as it was heard."""


@dataclass(frozen=True)
class Append:
    """More text of a context, which begins if it does not exist yet."""

    context_id: str
    text: str
    """Any piece: half a word, half a surrogate pair."""
    opening: Opening


@dataclass(frozen=True)
class ChangeVoice:
    """Sets the voice of the text that comes next. It does nothing if the context does not exist
    yet, because the message that begins it has the voice too."""

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
    """Speak the text so far; `Flushed` follows when it was spoken."""

    context_id: str
    flush_id: str | None = None
    may_be_empty: bool = False
    """Whether a flush without text since the last one is answered too; otherwise it is refused."""


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
    """Barge-in: stop, because the listener speaks, and has heard so much of the timeline.
    `Interrupted` follows, and no audio after it. It may come after everything was spoken, because
    audio is heard later than it is sent."""

    context_id: str
    played_ms: int


@dataclass(frozen=True)
class Update:
    """Change the settings of later contexts: `Updated` follows."""

    settings: ContextSettings


@dataclass(frozen=True)
class Refuse:
    """The message cannot be served: `Problem` follows, and the connection goes on."""

    error: WireError
    context_id: str | None = None


@dataclass(frozen=True)
class Close:
    """No more requests follow: close when everything is spoken."""


@dataclass(frozen=True)
class Answer:
    """Answer at once with these messages, because no speech is needed."""

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
    """The model loads; requests wait meanwhile."""


@dataclass(frozen=True)
class Updated:
    settings: ContextSettings


@dataclass(frozen=True)
class Begun:
    """The context has begun: its first message, or a part of it, was accepted."""

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
    """Who said it, if the context has several voices."""


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
    """Something failed: the request of a message, the context itself, or, without a context, the
    connection."""

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
    """What a dialect may know about its connection."""

    limits: Limits
    find_voice: Callable[[str | None], Voice]
    """Raises `InvalidRequest` if there is no such voice; None is the default voice."""
    path: Mapping[str, str] = field(default_factory=dict)
    """The route's parameters."""
    query: Mapping[str, str] = field(default_factory=dict)
    show_key: Callable[[str], None] | None = None
    """Admits the owner of the key, if one is needed and was not sent before. Raises
    `Unauthorized`."""
    defaults: Defaults = field(default_factory=Defaults)


class Dialect(ABC):
    """Translates for one connection."""

    name: ClassVar[str]
    """The endpoint, in metrics and in the log."""
    takes_audio: ClassVar[bool] = False
    """Whether a message may be as large as `max_audio_message_bytes`."""
    takes_key: ClassVar[bool] = False
    """Whether a key may come in a message: the connection is then admitted without one."""
    idle_timeout_s: float | None = None
    """The idle timeout of this connection, if it is longer than the server's."""

    @abstractmethod
    def __init__(self, handshake: Handshake) -> None:
        """Raises `WireError`, which is sent before the connection is closed."""

    @property
    def kept_bytes(self) -> int:
        """How much client data the dialect itself keeps, besides the contexts: it counts in
        `max_waiting_bytes`."""
        return 0

    @property
    def is_for_stranger(self) -> bool:
        """Whether its client has not shown a key yet."""
        return False

    @abstractmethod
    def receive(self, message: str) -> Sequence[Action]:
        """Translate one text message to actions, which are performed in order. The first that fails
        is a `Problem`; of the rest only an `End` is performed, if its context exists."""

    @abstractmethod
    def write(self, event: Event) -> Sequence[str | bytes]:
        """Translate an event to messages, text or binary, which are sent together."""

    def follow(self, event: Event) -> Sequence[Action]:
        """The actions that follow an event. A service that speaks one request after the other
        begins the next one here."""
        return ()

    def close_code(self, problem: Problem) -> int | None:
        """The code with which the service closes the connection after this event; None if it stays
        open."""
        return None

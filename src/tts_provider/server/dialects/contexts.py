"""The contexts of one connection, without I/O: actions in → what their timelines are to do.

A context is an independent timeline that a client writes text into. This module reads the text, so
that the speech never depends on how the client cut it, and enforces the limits for every dialect.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, OverCapacity
from tts_provider.server.dialects.dialect import (
    Append,
    Cancel,
    ChangeVoice,
    ContextAction,
    End,
    Flush,
    Interrupt,
    Listen,
    Opening,
)
from tts_provider.server.dialects.fields import check_text
from tts_provider.server.service.service import Said
from tts_provider.speech.duration import check_pauses
from tts_provider.speech.engine import Voice
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.reading import Passage, Reader, ReadingOptions
from tts_provider.speech.transcript import Written

LONGEST_ID = 128
# How many ids of finished contexts are remembered, to tell a late message from a wrong one.
_FINISHED_KEPT = 1024
# The memory of an item, besides its texts and audio, and of the message that it came with.
_RUN_BYTES = 200  # four numbers and the tuple around them
_ITEM_BYTES = 512
# Each character of a text that waits for the end of its sentence knows where it was written.
_CHARACTER_BYTES = 80
_MARK_BYTES = 1024  # of a pause, or of how a word is said

_IN_PARTS = "send the rest when some of it was spoken"

Item = Passage | Listen | Flush | End
"""The items of a timeline, in order."""


@dataclass
class Context:
    """A text that is being written, and the part that is not spoken yet. As its timeline takes from
    that part, there is room for more."""

    id: str
    reader: Reader
    opening: Opening
    unspoken: int = 0
    """Characters of passages that are not spoken yet."""
    unspoken_pause_s: float = 0.0
    """The pauses among these passages."""
    unheard_bytes: int = 0
    """The other side's audio that is not decoded yet."""
    waiting_bytes: int = 0
    """The items that the timeline has not taken yet."""
    cut_character: str = ""  # the first half of a surrogate pair
    unflushed: bool = False
    ended: bool = False
    is_reading: bool = False
    """Whether another thread is using its reader."""
    voice: Voice = field(init=False)
    """The voice of the text that comes next."""
    written: Written = field(default_factory=lambda: Written(0))
    """The text that its client has written."""

    def __post_init__(self) -> None:
        self.voice = self.opening.settings.voice

    @property
    def has_text(self) -> bool:
        """Whether a sentence has begun that is not complete."""
        return self.is_reading or self.reader.characters > 0

    @property
    def kept_bytes(self) -> int:
        return (
            _ITEM_BYTES
            + _lexicon(self.opening).size_bytes
            + self.waiting_bytes
            + _CHARACTER_BYTES * self.reader.characters
            + self.written.size_characters
            + _MARK_BYTES * self.reader.marks
        )

    def take_clause(self, *, is_patient: bool = False) -> list[Passage]:
        """Return what can be spoken already, because the writer pauses; if `is_patient`, for a long
        time."""
        if self.is_reading:
            return []
        return self.count(self.reader.take_clause(is_patient=is_patient))

    def taken(self, item: Item) -> None:
        """The timeline has taken this item."""
        self.waiting_bytes -= _size_bytes(item)

    def spoken(self, passage: Passage) -> None:
        """A passage's turn has come."""
        self.unspoken -= len(passage.text)
        self.unspoken_pause_s -= passage.pause_s

    def heard(self, said: Said) -> None:
        """The other side's audio was decoded."""
        self.unheard_bytes -= len(said.audio)

    def close_text(self) -> list[Passage]:
        """End the text and return what is left of it."""
        return self.count([*self._close_character(), *self.reader.flush()])

    def _close_character(self) -> list[Passage]:
        """A first half of a surrogate pair stays alone: its second half does not follow."""
        if not self.cut_character:
            return []
        self.cut_character = ""
        self.written.add("\ufffd")
        return self.reader.push("\ufffd")

    def change_voice(self, voice: Voice) -> list[Passage]:
        """Change the voice, and return what is left of the text before it. If this raises
        `InvalidRequest`, the voice has changed all the same."""
        self.voice = voice
        return self.count([*self._close_character(), *self.reader.change_voice(voice)])

    def count(self, passages: list[Passage]) -> list[Passage]:
        self.unspoken += sum(len(passage.text) for passage in passages)
        self.unspoken_pause_s += sum(passage.pause_s for passage in passages)
        self.wait(*passages)
        return passages

    def wait(self, *items: Item) -> list[Item]:
        self.waiting_bytes += sum(map(_size_bytes, items))
        return [*items]


@dataclass
class Reading:
    """A text that was accepted and has to be read: its passages become those of its context."""

    text: str
    cut_character: str
    is_first: bool
    context: Context = field(repr=False)
    longest_s: float
    """The longest that the context's audio may be."""
    unspoken: int = 0
    pauses_s: float = 0.0
    waiting_bytes: int = 0

    def read(self) -> Iterator[Passage]:
        """Read the passages, in any thread. A text may have thousands, so they are counted in that
        thread too. Raises `InvalidRequest`."""
        for passage in self.context.reader.feed(self.text):
            self.unspoken += len(passage.text)
            self.pauses_s += passage.pause_s
            self.waiting_bytes += _size_bytes(passage)
            yield passage
        new_s = self.pauses_s + self.context.reader.pauses_s
        check_pauses(self.context.unspoken_pause_s + new_s, self.longest_s)


class Contexts:
    """The open contexts of one connection."""

    def __init__(
        self,
        limits: Limits,
        new_reader: Callable[[Voice, ReadingOptions], Reader],
        kept_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """`kept_bytes` is how much client data the connection's dialect keeps."""
        self._limits = limits
        self._new_reader = new_reader
        self._kept_bytes = kept_bytes
        self._open: dict[str, Context] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()

    def take(self, action: ContextAction) -> list[Item]:
        """Return what the context's timeline has to do now; this begins a context that does not
        exist yet.

        Raises `InvalidRequest` or `OverCapacity`, and then nothing has changed. But an end always
        ends the context, whatever is wrong with the rest of the text.
        """
        if isinstance(action, Append):
            reading = self.begin(action)
            try:
                passages = [*reading.read()]
            except InvalidRequest:
                self.abandon(reading)
                raise
            return self.complete(reading, passages)
        self._check(action)
        match action:
            case Listen():
                return self._listen(action)
            case ChangeVoice(context_id, voice):
                return self._change_voice(context_id, voice)
            case Flush():
                return self._flush(action)
            case End(context_id):
                context = self._find_writable(context_id)
                context.ended = True
                return [*context.close_text(), *context.wait(action)]
            case Cancel(context_id) | Interrupt(context_id):
                self._get(context_id)
                self.finish(context_id)
                return []

    def begin(self, action: Append) -> Reading:
        """`take` in two steps, for a text that takes long to read. The caller reads it, and then
        calls `complete` or `abandon` before it takes anything else.

        Raises `InvalidRequest` or `OverCapacity`, and then nothing has changed.
        """
        self._check(action)
        known = self._open.get(action.context_id)
        whole = (known.cut_character if known else "") + action.text
        text = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        cut = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text[: len(text) - len(cut)]
        check_text(text, self._limits, advice=_IN_PARTS)
        if known is not None:
            self._check_length(known, text)
        context = self._open_or_find(action.context_id, action.opening)
        context.is_reading = True
        longest_s = self._limits.max_reply_audio_s
        return Reading(text, cut, known is None, context, longest_s)

    def complete(self, reading: Reading, passages: list[Passage]) -> list[Item]:
        """Return what the timeline has to do now: nothing if the context has ended meanwhile."""
        context = reading.context
        context.is_reading = False
        if self._open.get(context.id) is not context:
            return []
        context.cut_character = reading.cut_character
        context.written.add(reading.text)
        context.unflushed = context.unflushed or bool(reading.text.strip())
        context.unspoken += reading.unspoken
        context.unspoken_pause_s += reading.pauses_s
        context.waiting_bytes += reading.waiting_bytes
        return [*passages]

    def abandon(self, reading: Reading) -> None:
        """The text could not be read: if it was the first of its context, the context does not
        begin."""
        reading.context.is_reading = False
        if reading.is_first and self._open.get(reading.context.id) is reading.context:
            del self._open[reading.context.id]

    def _check(self, action: ContextAction) -> None:
        if not 0 < len(action.context_id) <= LONGEST_ID:
            raise InvalidRequest(
                f"context_id must have from 1 to {LONGEST_ID} characters; "
                f"got {len(action.context_id)}",
                param="context_id",
            )
        if isinstance(action, (Append, Listen, Flush)):  # the others make room
            self._check_room(_size_bytes(action) + self._opening_bytes(action))

    @property
    def names(self) -> set[str]:
        """Ids of those that are open."""
        return set(self._open)

    def find(self, context_id: str) -> Context | None:
        """The open context of this id, or None."""
        return self._open.get(context_id)

    def check_kept(self) -> None:
        """Raises `InvalidRequest` if the dialect alone keeps more than the limit."""
        self._check_waiting(self._kept_bytes(), 0)

    def finish(self, context_id: str) -> None:
        """End the context, whatever its client still sends."""
        if self._open.pop(context_id, None) is not None:
            self._finished[context_id] = None
            if len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)

    def _change_voice(self, context_id: str, voice: Voice) -> list[Item]:
        context = self._open.get(context_id)
        if context is None or context.voice == voice:
            return []
        passages = self._find_writable(context_id).change_voice(voice)
        return [*passages]

    def _listen(self, action: Listen) -> list[Item]:
        known, size = self._open.get(action.context_id), len(action.said.audio)
        limit = self._limits.max_audio_message_bytes
        if known is not None and known.unheard_bytes + size > limit:
            raise InvalidRequest(
                f"context {action.context_id!r} has {known.unheard_bytes} bytes of audio that it "
                f"could not look at yet; the limit is {limit}",
                code="too_much_audio",
                param="audio",
            )
        context = self._open_or_find(action.context_id, action.opening)
        context.unheard_bytes += size
        if _lexicon(action.opening) is not _lexicon(context.opening):
            # Each message may have another one, and none of them is counted.
            action = replace(action, opening=context.opening)
        return context.wait(action)

    def _flush(self, action: Flush) -> list[Item]:
        if len(action.flush_id or "") > LONGEST_ID:
            raise InvalidRequest(
                f"flush_id may have {LONGEST_ID} characters; got {len(action.flush_id or '')}",
                param="flush_id",
            )
        context = self._find_writable(action.context_id)
        if not (context.unflushed or action.may_be_empty):
            raise InvalidRequest(
                f"context {action.context_id!r} has had no text since its last flush",
                code="nothing_to_flush",
                param="context_id",
            )
        passages = context.close_text()
        context.unflushed = False
        return [*passages, *context.wait(action)]

    def _open_or_find(self, context_id: str, opening: Opening) -> Context:
        if context_id in self._open:
            context = self._find_writable(context_id)
            if opening.is_first:
                raise InvalidRequest(
                    f"context {context_id!r} has its voice; "
                    "give one with a context's first message only",
                    param="voice",
                )
            return context
        if context_id in self._finished:
            raise _finished(context_id)
        limit = self._limits.max_contexts
        if len(self._open) >= limit:
            raise OverCapacity(
                f"this connection has {limit} contexts, the limit; end or cancel one first",
                code="too_many_contexts",
                param="context_id",
                retry_after_ms=1000,
            )
        settings = opening.settings
        reader = self._new_reader(settings.voice, settings.reading)
        written = Written(self._limits.max_text_characters)
        self._open[context_id] = Context(context_id, reader, opening, written=written)
        return self._open[context_id]

    def _find_writable(self, context_id: str) -> Context:
        context = self._get(context_id)
        if context.ended:
            raise InvalidRequest(
                f"context {context_id!r} was ended; begin another one",
                code="context_ended",
                param="context_id",
            )
        return context

    def _get(self, context_id: str) -> Context:
        if context_id in self._open:
            return self._open[context_id]
        if context_id in self._finished:
            raise _finished(context_id)
        raise InvalidRequest(
            f"there is no context {context_id!r}; the first text makes one",
            code="unknown_context",
            param="context_id",
        )

    def _check_length(self, context: Context, text: str) -> None:
        waiting, limit = context.unspoken + context.reader.characters, self._limits
        if waiting + len(text) > limit.max_text_characters:
            raise InvalidRequest(
                f"the context would have {waiting + len(text)} characters that are not spoken "
                f"yet; the limit is {limit.max_text_characters}: {_IN_PARTS}",
                code="text_too_long",
                param="text",
            )

    def _check_room(self, more_bytes: int) -> None:
        """Everything that waits on this connection counts against one limit."""
        waiting_bytes = self._kept_bytes() + sum(each.kept_bytes for each in self._open.values())
        self._check_waiting(waiting_bytes, more_bytes)

    def _check_waiting(self, waiting_bytes: int, more_bytes: int) -> None:
        limit = self._limits.max_waiting_bytes
        if waiting_bytes + more_bytes > limit:
            raise InvalidRequest(
                f"{waiting_bytes} bytes wait on this connection to be spoken or heard; the limit "
                f"is {limit}",
                code="too_much_waiting",
            )

    def _opening_bytes(self, action: Append | Listen | Flush) -> int:
        """The memory of the context that this message would begin."""
        if isinstance(action, Flush) or action.context_id in self._open:
            return 0
        return _ITEM_BYTES + _lexicon(action.opening).size_bytes


def _lexicon(opening: Opening) -> Lexicon:
    return opening.settings.reading.lexicon


def _size_bytes(item: Item | Append) -> int:
    match item:
        case Passage(text=text, spoken=spoken, runs=runs, spoken_runs=spoken_runs):
            runs_bytes = _RUN_BYTES * (len(runs) + len(spoken_runs))
            return _ITEM_BYTES + sys.getsizeof(text) + sys.getsizeof(spoken) + runs_bytes
        case Append(text=text):
            strings = [text]
        case Listen(said=said):
            return _ITEM_BYTES + len(said.audio) + sys.getsizeof(said.text)
        case Flush(flush_id=flush_id):
            strings = [flush_id or ""]
        case _:
            strings = []
    return _ITEM_BYTES + sum(map(sys.getsizeof, strings))


def _finished(context_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"context {context_id!r} is over; begin another one",
        code="context_finished",
        param="context_id",
    )

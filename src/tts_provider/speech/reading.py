"""Text → structure → segments → words: the one way from what somebody wrote to what is said."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Phonemes, Voice
from tts_provider.speech.languages import read_figures
from tts_provider.speech.languages.identify import identify
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.mapped_text import MappedText, Run
from tts_provider.speech.normalize import normalize
from tts_provider.speech.segment import Segmenter, Span
from tts_provider.speech.structure.blocks import BlockParser
from tts_provider.speech.structure.patterns import KEPT_ACT
from tts_provider.speech.structure.plain_text import PlainText
from tts_provider.speech.structure.ssml import Ssml
from tts_provider.speech.timing.alignment import AlignedWord, align, spoken_words

PIECE_CHARACTERS = 1000
"""Of a long text so much is read at a time: some milliseconds."""

LONGEST_WORDS = 2000
"""Characters of words that a lexicon may make of one passage: seven times the longest."""

MOST_VOICE_CHANGES = 200
"""Within one text."""

MOST_WORDS = 3
"""So many for each character, and `LONGEST_WORDS` more, it may make of all that a reader reads."""


@dataclass(frozen=True)
class Passage:
    """What an engine says in one go: a sentence, or a part of a long one."""

    text: str
    """As it was written, without its markup."""
    spoken: str
    """As it is to be said. Empty where there is only a pause."""
    start: int = 0
    """Where it was written: characters of the whole text, from here to before `end`."""
    end: int = 0
    pause_s: float = 0.0
    """Silence instead of words."""
    phonemes: tuple[Phonemes, ...] = ()
    """How parts of `spoken` are pronounced, in order, for engines that take phonemes."""
    written: tuple[tuple[int, int, str], ...] = ()
    """From where to before where `text` has words that SSML has for others, and those."""
    voice: Voice | None = None
    """Who says it, where the text says who; else the utterance's own voice."""
    runs: tuple[Run, ...] = field(default=(), repr=False, compare=False)
    """Where each part of `text` was written."""
    spoken_runs: tuple[Run, ...] = field(default=(), repr=False, compare=False)
    """What of `text` each part of `spoken` stands for."""

    def written_between(self, start: int, end: int) -> str:
        """What was written for a part of `text`, without markup, on one line."""
        parts, done = list[str](), start
        for first, after, written in self.written:
            if start <= first and after <= end:
                parts += [self.text[done:first], written]
                done = after
        return " ".join("".join([*parts, self.text[done:end]]).split())

    def written_words(self) -> list[AlignedWord]:
        """Where each of the spoken words was written, in order."""
        return align(self.text, self.spoken, self.runs, self.spoken_runs)


@dataclass(frozen=True)
class ReadingOptions:
    """How a text is to be read."""

    normalize: bool = True
    """Without it, what was written is left to the engine, except for its structure."""
    language: str = "en"
    """The voice's, as a BCP 47 tag. English is read as words; of some others, their figures."""
    ssml: bool = False
    tags: bool = False
    """Whether `<break time="1s"/>` and `<spell>` mean something in a text that is no SSML."""
    acts: bool = False
    """Whether what a speaker is to do, `[sighs]`, stays for an engine that can."""
    voice_tags: bool = False
    """Whether `[voice:name]` means something in a text that is no SSML, where `<voice>` does."""
    aloud: frozenset[str] = frozenset()
    """What of `structure.NOT_SPEECH` is to be spoken."""
    lexicon: Lexicon = field(default_factory=Lexicon)
    readers: Mapping[str, Voice] = field(default_factory=dict)
    """Who says a passage in another language than the voice's: a primary subtag of BCP 47 → a
    voice. Of no effect in a `Reader` without a `Cast`."""


AS_WRITTEN = ReadingOptions()
"""Nothing special is asked for."""


@dataclass(frozen=True)
class Cast:
    """Who may speak within a text, beside the voice that it was asked in."""

    find: Callable[[str], Voice]
    """Raises `InvalidRequest` where there is none of that name."""
    options: Callable[[Voice], ReadingOptions]
    """How the text is read where that voice speaks."""


@dataclass
class Amount:
    """How much was read, of all that has one bound: a text, or the turns of a dialogue."""

    written: int = 0
    """In characters."""
    respelled: int = 0
    """Of what a lexicon made longer."""


class Reader:
    """Reads a text that arrives in pieces; all passages together are those of the whole text.

    A passage that has nothing to say is left out.
    """

    def __init__(
        self,
        options: ReadingOptions = AS_WRITTEN,
        cast: Cast | None = None,
        amount: Amount | None = None,
    ) -> None:
        """Without a `cast` whoever is named in the text, one voice says all of it. With an `amount`
        what others read counts too."""
        self._options = self._own_options = options
        self._cast = cast
        self._voice: Voice | None = None
        self._own_voice: Voice | None = None
        self._foreign: Voice | None = None  # who said the last passage, if not `_voice`
        self._changes = 0
        self._structure = (
            Ssml(options.language, None if cast is None else lambda name: cast.find(name).language)
            if options.ssml
            else BlockParser(
                options.aloud,
                tags=options.tags,
                acts=options.acts,
                voices=options.voice_tags,
            )
        )
        self._segmenter = Segmenter()
        self._plain = PlainText()
        self._place = 0  # of `_plain` in all plain text
        self._amount = amount or Amount()

    @property
    def characters(self) -> int:
        """How many are waiting for the end of their sentence; a pause counts as one."""
        pauses = len(self._plain.pauses)
        return self._segmenter.characters + self._structure.characters + pauses

    @property
    def pauses_s(self) -> float:
        """Silence that was asked for and is in no passage yet."""
        return sum(pause_s for _, pause_s, _ in self._plain.pauses)

    @property
    def marks(self) -> int:
        """How many pauses, pronunciations and voices are in no passage yet."""
        plain = self._plain
        return len(plain.pauses) + len(plain.phonemes) + len(plain.voices)

    def push(self, text: str) -> list[Passage]:
        """The passages that `text` completes. Raises `InvalidRequest` where it is wrong SSML, or
        the lexicon makes too many words of it; what of `text` was not read by then is left out."""
        return list(self.feed(text))

    def feed(self, text: str) -> Iterator[Passage]:
        """The same; each passage is read when it is asked for, and all have to be."""
        for at in range(0, len(text), PIECE_CHARACTERS):
            piece, rest = text[at : at + PIECE_CHARACTERS], text[at + PIECE_CHARACTERS :]
            try:
                yield from self._passages(self._cut(self._structure.push(piece)))
            except InvalidRequest:
                self._leave_out(rest)
                raise

    def _leave_out(self, text: str) -> None:
        """What was complete with it is not spoken; what comes later has its place behind it."""
        spans = self._cut(self._structure.push(text))
        if spans:
            self._drop(spans[-1][1] - self._place)

    def flush(self) -> list[Passage]:
        """What is left, as if the text ended here. Raises as `push` does."""
        return list(self._passages(self._cut_all()))

    def change_voice(self, voice: Voice) -> list[Passage]:
        """What is left of the text so far; from here on this voice says it. Raises as `push` does,
        and then that voice says nothing of what was left.

        A reader without a `Cast` must not be asked.
        """
        assert self._cast is not None
        try:
            return self.flush()
        except InvalidRequest:
            self._segmenter.flush()
            self._drop(len(self._plain))
            raise
        finally:
            self._own_voice, self._own_options = voice, self._cast.options(voice)
            self._turn_to(voice)
            if isinstance(self._structure, Ssml):
                self._structure.language = voice.language

    def _turn_to(self, voice: Voice | None) -> None:
        """Who says what is read from now on; None is who said it before the text named others."""
        self._voice = voice or self._own_voice
        self._foreign = None
        if voice is None or self._cast is None:
            self._options = self._own_options
        else:
            self._options = self._cast.options(voice)

    def take_clause(self, *, is_patient: bool = False) -> list[Passage]:
        """What can be spoken without the rest of the sentence: for a writer who pauses.

        `$3.` may become `$3.50`, and `example.` an address: these wait for who `is_patient`.
        """
        is_closed = self._structure.is_in_gap
        spans = self._segmenter.take_clause(is_closed=is_closed, is_patient=is_patient)
        return list(self._passages(spans))

    def read(self, text: str) -> Iterator[Passage]:
        """All of it; each passage is read when it is asked for.

        Raises as `push` does: where the text is SSML of up to `PIECE_CHARACTERS`, at once.
        """
        if len(text) <= PIECE_CHARACTERS:
            spans = self._cut(self._structure.push(text))
            return self._passages([*spans, *self._cut_all()])
        return self._read_pieces(text)

    def _read_pieces(self, text: str) -> Iterator[Passage]:
        yield from self.feed(text)
        yield from self._passages(self._cut_all())

    def _cut(self, plain: PlainText) -> list[Span]:
        """Raises `InvalidRequest` where it names a voice that does not exist. Nothing that waits is
        spoken then, since it could be in another's voice."""
        names, plain.voices = plain.voices, []
        self._plain.extend(plain)
        spans = self._segmenter.push(plain.text)
        before = len(self._plain) - len(plain)
        try:
            self._plain.voices += [(before + at, self._find(name)) for at, name in names]
        except InvalidRequest:
            self._segmenter.flush()
            self._drop(len(self._plain))
            raise
        return spans

    def _find(self, name: str | Voice | None) -> Voice | None:
        """Raises `InvalidRequest`."""
        self._changes += 1
        if self._changes > MOST_VOICE_CHANGES:
            raise InvalidRequest(
                f"the text changes its voice more than {MOST_VOICE_CHANGES} times, the limit",
                code="too_many_voices",
                param="text",
            )
        if not isinstance(name, str) or self._cast is None:
            return None
        return self._cast.find(name)

    def _cut_all(self) -> list[Span]:
        spans = self._cut(self._structure.flush())
        return [*spans, *self._segmenter.flush()]

    def _passages(self, spans: Sequence[Span]) -> Iterator[Passage]:
        done = 0
        try:
            for place, place_after in spans:
                start, end = place - self._place, place_after - self._place
                yield from self._pauses(start)
                self._change_voices(start)
                passage = self._passage(self._plain.slice(start, end))
                if any(map(str.isalnum, passage.spoken)):
                    yield passage
                done = end
            if self._segmenter.characters == 0:
                done = len(self._plain)
                yield from self._pauses(done)
                self._change_voices(done)
        except InvalidRequest:  # the segmenter has cut the rest as well
            done = spans[-1][1] - self._place
            raise
        finally:
            self._drop(done)

    def _drop(self, count: int) -> None:
        self._plain.drop(count)
        self._place += count

    def _pauses(self, until: int) -> Iterator[Passage]:
        """Those that were asked for before this place."""
        pauses = self._plain.pauses
        while pauses and pauses[0][0] <= until:
            _, pause_s, place = pauses.pop(0)
            if pause_s:
                yield Passage("", "", place, place, pause_s)

    def _change_voices(self, until: int) -> None:
        """Those that begin before this place."""
        voices = self._plain.voices
        while voices and voices[0][0] <= until:
            _, voice = voices.pop(0)
            assert not isinstance(voice, str)  # `_cut` found it
            self._turn_to(voice)

    def _speaker(self, text: str) -> tuple[Voice | None, ReadingOptions]:
        """Who says this passage, and how it is read: what does not surely say its language is in
        that of the passage before, or in the voice's."""
        readers = self._options.readers
        if not readers or self._cast is None:
            return self._voice, self._options
        guess = identify(text)
        own = self._options.language.partition("-")[0].lower()
        if guess is not None and (guess.is_sure or guess.language == own):
            self._foreign = readers.get(guess.language)
        if self._foreign is None:
            return self._voice, self._options
        return self._foreign, self._cast.options(self._foreign)

    def _passage(self, plain: PlainText) -> Passage:
        voice, options = self._speaker(plain.text)
        text = MappedText(plain.text)
        if self._own_options.acts and not options.acts:
            text = text.sub(KEPT_ACT, " ")
        respelled = options.lexicon.respell(text)
        is_longer = len(respelled) > len(plain)
        if is_longer and len(respelled) > LONGEST_WORDS:
            raise _too_many_words(len(respelled), len(plain), LONGEST_WORDS)
        said = self._say(text, options) if options.acts else _in_words(respelled, options)
        spoken = said.string
        amount = self._amount
        amount.written += len(plain)
        if is_longer:
            amount.respelled += len(spoken)
            if len(spoken) > LONGEST_WORDS:
                raise _too_many_words(len(spoken), len(plain), LONGEST_WORDS)
            most = LONGEST_WORDS + MOST_WORDS * amount.written
            if amount.respelled > most:
                raise _too_many_words(amount.respelled, amount.written, most)
        start, end = plain.span(0, len(plain))
        phonemes = _apart([*_asked_for(plain, said), *options.lexicon.find_phonemes(spoken)])
        runs = plain.runs()
        written = tuple(plain.written)
        return Passage(
            plain.text, spoken, start, end, 0.0, phonemes, written, voice, runs, said.runs()
        )

    def _say(self, text: MappedText, options: ReadingOptions) -> MappedText:
        """What is said, and what a speaker is to do left as it is written."""
        lexicon = options.lexicon
        pieces, done = list[MappedText](), 0
        for act in KEPT_ACT.finditer(text.string):
            before = text.slice(done, act.start())
            pieces += [_in_words(lexicon.respell(before), options), text.slice(*act.span())]
            done = act.end()
        pieces.append(_in_words(lexicon.respell(text.slice(done, len(text))), options))
        return MappedText.join(piece for piece in pieces if len(piece))


def _in_words(text: MappedText, options: ReadingOptions) -> MappedText:
    if not options.normalize:
        return text.on_one_line()
    if options.language.partition("-")[0].lower() == "en":
        return normalize(text)
    return read_figures(text.on_one_line(), options.language)


def _too_many_words(words: int, written: int, most: int) -> InvalidRequest:
    return InvalidRequest(
        f"the lexicon makes {words} characters of words out of {written} of the text; it may make "
        f"{most}: say its words, or the request's pronunciations, in fewer",
        code="pronunciations_too_long",
        param="pronunciations",
    )


def _apart(phonemes: Iterable[Phonemes]) -> tuple[Phonemes, ...]:
    """In order; of two for the same word the first stays."""
    kept, starts = list[Phonemes](), list[int]()
    for one in phonemes:
        # None in `kept` overlaps another, so only its neighbors can overlap this one.
        at = bisect_right(starts, one.start)
        before, after = kept[max(at - 1, 0) : at], kept[at : at + 1]
        if all(other.end <= one.start for other in before) and all(
            one.end <= other.start for other in after
        ):
            kept.insert(at, one)
            starts.insert(at, one.start)
    return tuple(kept)


def _asked_for(plain: PlainText, said: MappedText) -> Iterator[Phonemes]:
    """The phonemes that the text itself asks for, on its words."""
    if not plain.phonemes:
        return
    spoken = [(word, said.span(*word)) for word in spoken_words(said.string)]
    for start, end, ipa in plain.phonemes:
        inside = [word for word, (first, after) in spoken if start < after and first < end]
        if inside:
            yield Phonemes(inside[0][0], inside[-1][1], ipa)


def read(text: str, options: ReadingOptions = AS_WRITTEN) -> Iterator[Passage]:
    """The passages of a whole text. Raises `InvalidRequest` where it is wrong SSML."""
    return Reader(options).read(text)

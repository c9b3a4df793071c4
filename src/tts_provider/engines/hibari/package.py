"""What is used of the package hibari-tts: its files, checked, and its reading of English.

Nothing else imports the package. If it ever disappears from the index, its license allows us to
carry the files along, and only this file changes.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tts_provider.engines.hibari.graph import open_session
from tts_provider.engines.hibari.ipa import from_ipa
from tts_provider.engines.hibari.table import Table
from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.engines.word_spans import find_words
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Phonemes
from tts_provider.speech.normalize.capitals import find_spelled
from tts_provider.speech.normalize.english import acronyms
from tts_provider.speech.normalize.letters import is_letter_a

VERSION = "0.2.1"
_PACKAGE = "hibari-tts"
_INSTALL = f"pip install --force-reinstall {_PACKAGE}=={VERSION}"

_SHA256 = {
    "hibari.onnx": "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
    "vocab.json": "70abefbe8a1c8865e43e0a43bbdc25b91a33e4aa053479d443ccf23e20a59e5d",
    "lexicon_us_gold.json.gz": "63ae94f8ef0e906d5b24fe9b59ffcbd1529aca5686a774610e43973cbaa86ad2",
    "lexicon_us_silver.json.gz": "c4c2546ebf1eb07010331e7ef785a431aa17ba8e7bfb6b4af8d654ee96a71fd3",
    "oov.onnx": "d3cfd8122c5f172a98c8de38268bf1213ee09f2c2ae4df6e055fc6532590fe76",
    "oov.json": "b462e6e5dbdf0e7346c732385d0dd844f612f1770871441c56932bff4ca75d8c",
    "lexicon_gb_gold.json.gz": "66e675f23eb007d6707d23fe6603ba5e19f3513aefe42e3c8cd6c078a85f2ce0",
    "lexicon_gb_silver.json.gz": "637f887dd557d193af8c106f5c26624850db3e7bf0ec751ba917aac6d75e948d",
    "oov_gb.onnx": "0997e3219543247de5646078d770f8ca77011d8fd0abb29fe48d12c60f53e9e1",
    "oov_gb.json": "e29077fc3548f08f2fab82a87e03309f614658d91d0ba464e653265e9a4d0cad",
    "tagger.json.gz": "d2da7502284bbbe45d49e0b7ce3ce67bdab82254150f4317f1b8559b4d38d0eb",
    "tokenizer_exceptions.json": "ddf3a3da07bdcf5144270ea4530191d8580fb4fd6f5ae93296e87916e795659a",
    "normalize.json": "d478ff05404bc43ac3e0468e306674e51085f1b1afc94cdef7c7ea4fb0d56bd8",
    "voices.json": "f8b7657ecd0e0e362d3403e99538c0e5bfe20d6a903dfcd04c772b2c73abb204",
}

# The reading of an unknown word ends after 24 letters, and numbers end at a nonillion: longer runs
# are read in parts.
_LONG_RUN = re.compile(r"[^\W\d_]{25,}|\d{16,}")
_PART = re.compile(r"\D{1,20}|\d{1,15}")
_LETTER_A = "ˈA"
# Where the parts of its table of parts of speech begin.
_TAGDICT, _WEIGHTS = b',"tagdict":', b',"weights":'
_REMEMBERED_FEATURES = 4096
_PLURALS = {"F": "s", "H": "ᵻz", "S": "ᵻz", "X": "ᵻz"}
"""What `'s` is behind the name of a letter, where it is not z."""
# Square brackets are pronunciation markup, and a curled apostrophe is not in its tables.
_PLAIN = str.maketrans("[]’‘", "()''")


def is_installed() -> bool:
    return importlib.util.find_spec("hibari") is not None


def read_model() -> bytes:
    """The graph of the voice in the package. All of its files are checked.

    Raises `StartupError` if one is missing, damaged or of another version.
    """
    spec = importlib.util.find_spec("hibari")
    try:
        found = version(_PACKAGE)
    except PackageNotFoundError:
        found = None
    if spec is None or spec.origin is None or found is None:
        raise StartupError(f"the embedded voice hibari is not installed: {_INSTALL}")
    if found != VERSION:
        raise StartupError(
            f"the embedded voice needs {_PACKAGE} {VERSION}, but {found} is installed: {_INSTALL}"
        )
    contents = {}
    for name, sha256 in _SHA256.items():
        path = Path(spec.origin).parent / "assets" / name
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise StartupError(
                f"the embedded voice's file {path} cannot be read ({error.strerror}): {_INSTALL}"
            ) from None
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise StartupError(f"the embedded voice's file {path} is damaged: {_INSTALL}")
    return contents["hibari.onnx"]


class Phonemizer:
    """English letters → the model's phonemes. From any thread."""

    def __init__(
        self,
        *,
        is_british: bool = False,
        read_unknown: Callable[[str], str | None] | None = None,
        of_ipa: Callable[[str], str | None] = from_ipa,
    ) -> None:
        """Takes half a second, the next one of the same English nothing. `read_unknown` says words
        that no dictionary has, in phonemes, where it can, before the package's own network does;
        `of_ipa` says what was asked for, None where the voice has no such sound. Raises
        `StartupError` where the package's code is damaged."""
        self._of_ipa = of_ipa
        try:
            if read_unknown is None:
                _unknown_words(is_british)

            def read(word: str) -> str | None:
                said = (read_unknown(word) or "") if read_unknown is not None else ""
                known = "".join(filter(self._ids.__contains__, said))
                return known or _unknown_words(is_british)(word)

            self._g2p = _g2p(read, is_british)
            self._ids: dict[str, int] = json.loads(_read("vocab.json"))
            self._letters = frozenset(json.loads(_read(_network(is_british, "json")))["in"])
        except Exception as error:  # noqa: BLE001 - foreign code, damaged in whatever way
            raise StartupError(
                f"the embedded voice cannot be set up ({error}): {_INSTALL}"
            ) from None

    def pronounce(self, text: str, asked: Sequence[Phonemes] = ()) -> Pronunciation:
        """`text` has words: numbers and symbols were read out before.

        `asked` says how parts of it are pronounced, in order. One with a sound that is no English
        is read as the others are.
        """
        plain, places = self._plain(text)
        phonemes = ""
        spans: dict[tuple[int, int], list[int]] = {}  # a word's place → its phonemes' place
        words = {at: span for span in find_words(text) for at in range(*span)}
        at = 0
        for token in self._g2p.phonemize_tokens(
            self._spelled(self._tokens(plain, places, asked), plain)
        ):
            at = max(at, plain.find(token.text, at))
            begun, end = len(phonemes), at + len(token.text)
            phonemes += "".join(filter(self._ids.__contains__, token.phonemes or ""))
            word = next((words[place] for place in places[at:end] if place in words), None)
            if word is not None and len(phonemes) > begun:
                spans.setdefault(word, [begun, 0])[1] = len(phonemes)
            at = end
            if token.whitespace and phonemes:
                phonemes += " "
        found = (PronouncedWord(*word, *span) for word, span in spans.items())
        return Pronunciation(phonemes.rstrip(), tuple(found))

    def _tokens(self, plain: str, places: list[int], asked: Sequence[Phonemes]) -> list[Any]:
        tokens, done = list[Any](), 0
        for part in asked:
            phonemes = self._of_ipa(part.ipa)
            if phonemes is None:
                continue
            start, end = bisect_left(places, part.start), bisect_left(places, part.end)
            tokens += self._g2p.tokenize(plain[done:start].lstrip())
            tokens += self._marked(plain[start:end], phonemes)
            tokens[-1].whitespace = " " if plain[end : end + 1] == " " else ""
            done = end
        return [*tokens, *self._g2p.tokenize(plain[done:].lstrip())]

    def _spelled(self, tokens: list[Any], plain: str) -> list[Any]:
        """What stands in capitals is said letter by letter, and an acronym in small letters,
        `Unesco`, as its dictionary has it in capitals; whatever it would make of them itself."""
        letters = {start: plain[start:end] for start, end in find_spelled(plain)}
        lexicon, at, spelled = self._g2p.lexicon, 0, ""
        for token in tokens:
            at = max(at, plain.find(token.text, at))
            before, spelled = spelled, ""
            if token.phonemes is not None:
                pass
            elif token.text == "'s" and before:
                token.phonemes = _PLURALS.get(before[-1], "z")
            elif letters.get(at) == token.text:
                token.phonemes = lexicon.get_NNP(token.text)[0]
                spelled = token.text
            elif token.text == "A" and is_letter_a(plain, at):
                token.phonemes = _LETTER_A
            elif token.text.upper() in acronyms() and token.text not in lexicon.golds:
                token.phonemes = lexicon.golds.get(token.text.upper())
            at += len(token.text)
        return tokens

    def _marked(self, words: str, phonemes: str) -> list[Any]:
        """In the package's own markup: word by word where the phonemes are as many."""
        written, spoken = words.split(), phonemes.split()
        if len(written) != len(spoken):
            written, spoken = [words], [phonemes]
        pairs = zip(written, spoken, strict=True)
        marked = " ".join(f"[{word}](/{sounds}/)" for word, sounds in pairs)
        return list(self._g2p.tokenize(marked))

    def encode(self, phonemes: str) -> list[int]:
        """Their ids, with the silence at both ends, 0."""
        return [0, *(self._ids[phoneme] for phoneme in phonemes), 0]

    def _plain(self, text: str) -> tuple[str, list[int]]:
        """The text as the package can read it, and where each of its characters was."""
        plain, places = list[str](), list[int]()
        cuts = {
            run.start() + part.start()
            for run in _LONG_RUN.finditer(text)
            for part in _PART.finditer(run.group())
        }
        for place, character in enumerate(text):
            if unicodedata.combining(character):
                if plain and plain[-1] != " ":
                    plain[-1] = self._plain_character(
                        unicodedata.normalize("NFC", plain[-1] + character)
                    )
                continue
            if place in cuts:
                plain.append(" ")
                places.append(place)
            plain.append(self._plain_character(character))
            places.append(place)
        return "".join(plain).translate(_PLAIN), places

    def _plain_character(self, character: str) -> str:
        """One character that it knows, where there is one."""
        if character.isdigit():  # ² and ٣ too, which its tables cannot count with
            return str(unicodedata.digit(character))
        if character.isascii() or character in self._letters or not character.isalpha():
            return character[0]
        base = unicodedata.normalize("NFKD", character)[0]
        return base if base.isascii() else character[0]


# What is the same for all who read English, and large


def _g2p(read_unknown: Callable[[str], str | None], is_british: bool) -> Any:
    """The package's own reader of English, on tables that all of them share. Its constructor would
    make dictionaries of 73 MB, each time."""
    from hibari.g2p import G2P

    made = G2P.__new__(G2P)
    made.lexicon, made.tagger, made.tokenizer = _lexicon(is_british), _tagger(), _tokenizer()
    made._oov, made.unk, made.british = read_unknown, "", is_british
    return made


@functools.cache
def _lexicon(is_british: bool) -> Any:
    from hibari.g2p.lexicon import Lexicon

    accent = "gb" if is_british else "us"
    gold, silver = (Table(_read(f"lexicon_{accent}_{kind}.json.gz")) for kind in ("gold", "silver"))
    return Lexicon(gold, silver, is_british)


@functools.cache
def _tagger() -> Any:
    """Which part of speech a word is."""
    from hibari.g2p.tagger import Tagger

    text = _read("tagger.json.gz")
    tagdict = Table(text, text.index(_TAGDICT) + len(_TAGDICT))
    at = text.index(_WEIGHTS, tagdict.end)
    weights = Table(text, at + len(_WEIGHTS))
    lists = text[: text.index(_TAGDICT)] + text[tagdict.end : at] + b"}"
    # Most features of a text are those of all texts.
    remembered = SimpleNamespace(get=functools.lru_cache(_REMEMBERED_FEATURES)(weights.get))
    return Tagger(json.loads(lists) | {"tagdict": tagdict, "weights": remembered})


@functools.cache
def _tokenizer() -> Any:
    from hibari.g2p.tokenize import Tokenizer

    return Tokenizer(json.loads(_read("tokenizer_exceptions.json")))


@functools.cache
def _unknown_words(is_british: bool) -> Any:
    """The package's network for words that no dictionary has. By itself the package would make it
    on whatever threads."""
    from hibari.g2p import ASSETS
    from hibari.g2p.oov import OOV

    network = _network(is_british, "onnx")
    return OOV(str(Path(ASSETS, network)), open_session(_read(network)))


def _network(is_british: bool, kind: str) -> str:
    return f"oov{'_gb' if is_british else ''}.{kind}"


def _read(name: str) -> bytes:
    from hibari.g2p import ASSETS

    data = Path(ASSETS, name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data

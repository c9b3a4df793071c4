"""The files of the package: what is missing or damaged is one sentence before the port opens."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers import clean_environment, run_cli
from tts_provider.engines.hibari.graph import edit
from tts_provider.engines.hibari.package import Phonemizer, read_model
from tts_provider.errors import StartupError


@pytest.fixture(scope="module")
def phonemizer():
    return Phonemizer()


@pytest.fixture
def package(tmp_path):
    """A copy of the package that a new process finds first."""
    spec = importlib.util.find_spec("hibari")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copytree(Path(spec.origin).parent, tmp_path / "hibari"))


def serve(package: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(package.parent, PYTHONPATH=str(package.parent))
    return run_cli(package.parent, "serve", "--engine", "hibari", "--port", "0", env=environment)


@pytest.mark.parametrize("name", ["hibari.onnx", "oov.onnx", "lexicon_us_gold.json.gz"])
def test_a_damaged_file_is_one_sentence_and_exit_2(package, name):
    file = package / "assets" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    ended = serve(package)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"{file} is damaged" in ended.stderr
    assert "pip install --force-reinstall hibari-tts==0.2.1" in ended.stderr


def test_a_missing_file_is_one_sentence_and_exit_2(package):
    (package / "assets" / "hibari.onnx").unlink()
    ended = serve(package)
    assert ended.returncode == 2
    assert "No such file" in ended.stderr
    assert "pip install --force-reinstall hibari-tts==0.2.1" in ended.stderr


def test_without_the_package_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(StartupError, match="not installed: pip install"):
        read_model()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("tts_provider.engines.hibari.package.version", lambda name: "9.9")
    with pytest.raises(StartupError, match=r"needs hibari-tts 0\.2\.1, but 9\.9"):
        read_model()


def test_another_graph_is_refused():
    with pytest.raises(StartupError, match="not the one"):
        edit(b"no graph")


@given(st.text(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_pronunciation_and_words_in_order(phonemizer, text):
    said = phonemizer.pronounce(text)
    assert len(phonemizer.encode(said.phonemes)) == len(said.phonemes) + 2
    places = [(word.start, word.end, word.first, word.last) for word in said.words]
    assert all(0 <= a < b <= len(text) and 0 <= c < d for a, b, c, d in places)
    assert all(a[1] <= b[0] and a[3] <= b[2] for a, b in itertools.pairwise(places))


@given(st.lists(st.sampled_from(["[", "]", "(", "/", ")", "hello", " ", "12", "'", "’", "-"])))
@settings(max_examples=200, deadline=None)
def test_markup_in_pieces_is_read(phonemizer, pieces):
    text = "".join(pieces)
    said = phonemizer.pronounce(text)
    assert ("hello" in text) == ("hˈɛl" in said.phonemes or "həl" in said.phonemes)


SPELLED = [
    ("The FBI's plan", "ˌɛfbˌiˈIz"),
    ("work in IT", "ˌItˈi"),
    ("WHO says", "dˌʌbᵊljuˌAʧˈO"),
    ("nine A M", "nˈIn ˈA ˈɛm"),
    ("Section A is", "sˈɛkʃən ˈA ɪz"),
    ("A is", "ˈA ɪz"),
    ("EPAM", "ˌipˌiˌAˈɛm"),
    ("SOS's", "ᵻz"),
]
WORDS = [
    ("A book", "ɐ bˈʊk"),
    ("Such a fool", "ɐ fˈul"),
    ("Unesco and Nasa", "junˈɛskO ænd nˈæsə"),
    ("Ramesh and Deepak", "ɹˈAməʃ ænd dˈipæk"),
]


def test_what_stands_in_capitals_is_said_letter_by_letter_and_nothing_else(phonemizer):
    """As `words` shows it, whatever the package's dictionary says of a word in capitals."""
    said = [(text, phonemizer.pronounce(text).phonemes, sounds) for text, sounds in SPELLED + WORDS]
    assert [one for one in said if one[2] not in one[1]] == []

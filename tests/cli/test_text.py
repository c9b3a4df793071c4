"""What a command is given: encodings, and subtitles by name or piped in."""

from __future__ import annotations

import io

import pytest

from tts_provider.cli.main import main
from tts_provider.cli.text import decode
from tts_provider.errors import StartupError
from tts_provider.speech.structure.subtitles import read_subtitles, subtitle_format

ENCODED = [
    ("cp1252", "Café"),
    ("cp1252", "naïve façade — “quoted” costs 5 €"),
    ("cp1252", "Das Mädchen grüßt die Straße."),
    ("cp1252", "El niño comió piñas mañana."),
    ("cp1250", "Zażółć gęślą jaźń, proszę bardzo."),
    ("cp1251", "Привет, мир. Как дела?"),
    ("koi8_r", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
    ("shift_jis", "これは日本語のテキストです。今日は天気がいい。"),
    ("gb18030", "这是一个中文文本。今天天气很好。"),
    ("euc_kr", "안녕하세요. 오늘 날씨가 좋습니다."),
    ("cp1253", "Καλημέρα κόσμε, τι κάνεις;"),
]


def test_other_encodings_are_found_and_said(capsys):
    wrong = [(one, text) for one, text in ENCODED if decode(text.encode(one), "it") != text]
    assert wrong == []
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "tts-provider: it is not UTF-8; it is read as cp1252"
    assert len(said) == len(ENCODED)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_marked_encoding_needs_no_word(encoding, capsys):
    assert decode("Café 日本".encode(encoding), "it") == "Café 日本"
    assert capsys.readouterr().err == ""


def test_a_mark_that_lies_is_one_sentence():
    with pytest.raises(StartupError, match="it is marked as utf-16 but is not"):
        decode(b"\xff\xfea", "it")


SRT = """\
1
00:00:01,000 --> 00:00:03,500
<i>It was a dark</i>
and stormy night,

2
00:00:03,600 --> 00:00:05,000 X1:10
{\\an8}and Ann had 5 km to go.

3
00:00:06,000 --> 00:00:07,000
- Who's there?
- 12 of us.

4
00:00:08,000 --> 00:00:09,000
♪
"""
VTT = """\
WEBVTT Kind: captions

STYLE
::cue { color: red }

NOTE a remark
of two lines

intro
00:01.000 --> 00:03.000 align:start
<v Roger>Hello &amp; welcome

00:03.000 --> 00:04.000
Hello &amp; welcome

00:04.000 --> 00:05.000
to <00:04.500><c>the show.</c>
"""


def test_subtitles_are_their_text():
    assert subtitle_format(SRT) == "srt"
    assert read_subtitles(SRT) == (
        "It was a dark and stormy night, and Ann had 5 km to go.\n- Who's there?\n- 12 of us."
    )
    assert subtitle_format(VTT) == "vtt"
    assert read_subtitles(VTT) == "Hello & welcome to the show."
    assert read_subtitles(SRT.replace("\n", "\r\n")) == read_subtitles(SRT)


@pytest.mark.parametrize(
    "text", ["", "WEBVTTX", "1\n2\n3", "At 00:01 --> 00:02", "1. one", "The WEBVTT format"]
)
def test_other_text_is_none(text):
    assert subtitle_format(text) is None


class Piped:
    """Standard input, as bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_words_reads_subtitles_piped_in_and_by_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", Piped(("\ufeff" + SRT).encode("utf-8")))
    assert main(["words", "-"]) == 0
    piped = capsys.readouterr()
    assert piped.out.splitlines()[0].endswith("stormy night, and Ann had five kilometers to go.")
    assert (
        piped.err == "tts-provider: standard input has SubRip subtitles; only their text is read\n"
    )
    file = tmp_path / "film.VTT"
    file.write_bytes(VTT.replace("welcome", "café").encode("cp1252"))
    assert main(["words", str(file)]) == 0
    named = capsys.readouterr()
    assert named.out == "Hello and café to the show.\n"
    assert named.err.splitlines() == [
        f"tts-provider: {file} is not UTF-8; it is read as cp1252",
        f"tts-provider: {file} has WebVTT subtitles; only their text is read",
    ]


def test_a_file_of_subtitles_that_is_not_there_is_one_sentence(capsys):
    assert main(["words", "nowhere.srt"]) == 2
    assert "cannot read nowhere.srt: No such file or directory" in capsys.readouterr().err

"""What strangers wrote is shown on a terminal, and does nothing there."""

from __future__ import annotations

import io
import logging
import wave

from tts_provider.audio.encode.manifest import Manifest
from tts_provider.cli import detect, doctor, main, text
from tts_provider.config import Settings
from tts_provider.errors import TTSError
from tts_provider.server.dialects.detect import Findings, Place, WatermarkFound
from tts_provider.server.logs import TextFormatter, printable

CODES = "\x1b]0;title\x07\x1b[2J\r\n\x9b31m\u202e\ud800"
SHOWN = r"\x1b]0;title\x07\x1b[2J\r\n\x9b31m\u202e\ud800"


def test_what_a_terminal_obeys_is_spelled_and_nothing_else():
    assert printable(CODES) == SHOWN
    for plain in ("Grüße, 你好", "👩‍👩‍👧", "می‌خواهم", "a\\b [c]"):
        assert printable(plain) == plain


def test_a_manifest_and_a_name_of_a_file(capsys, monkeypatch, tmp_path):
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(bytes(48_000))
    name = tmp_path / "a\x1b[2J.wav"
    name.write_bytes(data.getvalue())
    manifest = Manifest(CODES, CODES, is_intact=False, is_synthetic=True)
    mark = WatermarkFound(score=0.1, found=False, places=[Place(start_ms=0, end_ms=1)])
    found = Findings(duration_ms=1, watermark=mark, tag=None, manifest=manifest)
    monkeypatch.setattr(detect, "_look", lambda *_: found)
    detect.detect_files([str(name)])
    told = capsys.readouterr().out
    assert told.count(SHOWN) == 2
    assert r"a\x1b[2J.wav: no watermark" in told
    assert told.rstrip("\n").isprintable()


def test_what_a_server_says(capsys, monkeypatch):
    def fail(_: object) -> int:
        raise TTSError(CODES)

    monkeypatch.setattr(main, "_doctor", fail)
    assert main.main(["doctor"]) == 1
    assert capsys.readouterr().err == f"tts-provider: {SHOWN}\n"


def test_a_text_of_strangers(capsys):
    text.print_words("two\x1b[2Jone \x9b31m")
    assert capsys.readouterr().out.rstrip("\n").isprintable()


def test_what_answers_at_an_address(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_replicas", lambda _: {"http://a:1": f"says: {CODES}"})
    monkeypatch.setattr(doctor, "_whose_port", lambda _: CODES)
    monkeypatch.setattr(doctor, "_look_at_port", lambda _: CODES)
    settings = Settings(_env_file=None, data_dir=tmp_path, engine_urls="http://a:1", port=0)
    doctor.print_report(settings)
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    assert f"says: {SHOWN}" in told


def test_a_line_of_the_log_is_one_line():
    record = logging.makeLogRecord({"msg": "cut off: %s", "args": (CODES,), "voice": CODES})
    line = TextFormatter().format(record)
    assert line.isprintable()
    assert line.count(SHOWN) == 2

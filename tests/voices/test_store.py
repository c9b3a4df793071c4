"""A folder of voices that several processes share, and that hostile hands wrote into."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from recordings import TEXT, speech
from tts_provider.config import Limits
from tts_provider.errors import InvalidRequest, WireError
from tts_provider.voices.enrolment import make_prompt
from tts_provider.voices.store import VoiceStore

RECORDING = speech()


@pytest.fixture(name="store")
def make_store(tmp_path) -> VoiceStore:
    return VoiceStore(tmp_path / "data" / "voices", Limits())


@pytest.fixture(name="stored", scope="module")
def make_stored(tmp_path_factory) -> Path:
    """A folder with one voice, `anna`, to be copied."""
    folder = tmp_path_factory.mktemp("stored") / "voices"
    voice, _ = VoiceStore(folder, Limits()).add("Anna", TEXT, True, RECORDING)
    (folder / voice.id).rename(folder / "anna")
    facts = folder / "anna" / "voice.json"
    facts.write_text(facts.read_text("utf-8").replace(voice.id, "anna"), "utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder, links not followed."""
    found: dict[str, bytes | str | None] = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root, name)
            if path.is_symlink():
                value: bytes | str | None = os.readlink(path)  # noqa: PTH115
            else:
                value = path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(folder))] = value
    return found


def test_a_voice_and_back(store, tmp_path):
    assert store.list() == []
    assert not (tmp_path / "data").exists()
    voice, warnings = store.add(" Zoë Ångström ", f" {TEXT}\n", True, speech())
    assert warnings == []
    assert voice.id.startswith("zoe-angstrom-")
    assert (voice.name, voice.transcript, voice.gender) == ("Zoë Ångström", TEXT, "male")
    assert voice.pitch_hz == pytest.approx(102, abs=2)
    assert voice.consented_at == voice.created
    assert store.get(voice.id) == voice
    assert store.list() == [voice]
    assert VoiceStore(tmp_path / "data" / "voices", Limits()).list() == [voice]
    assert (voice.voice().source, voice.voice().speaker) == ("enrolled", None)
    audio = store.load_audio(voice.id)
    assert len(audio) * 1000 // 24_000 == voice.duration_ms
    kept = make_prompt(speech(), TEXT).samples
    np.testing.assert_allclose(audio, kept, atol=1e-4)
    files = sorted(contents(tmp_path / "data" / "voices"))
    assert files == [voice.id, f"{voice.id}/audio.flac", f"{voice.id}/voice.json"]


def test_removing(store):
    voice, _ = store.add("Anna", TEXT, True, RECORDING)
    other, _ = store.add("Anna", TEXT, True, RECORDING)
    assert voice.id != other.id
    assert store.remove(voice.id)
    assert not store.remove(voice.id)
    assert store.get(voice.id) is None
    assert store.list() == [other]
    with pytest.raises(InvalidRequest) as caught:
        store.load_audio(voice.id)
    assert caught.value.code == "unknown_voice"


def test_two_servers_share_a_folder(store, tmp_path):
    other = VoiceStore(tmp_path / "data" / "voices", Limits())
    voice, _ = store.add("Anna", TEXT, True, RECORDING)
    assert other.get(voice.id) == voice
    second, _ = other.add("Ben", TEXT, True, RECORDING)
    assert {v.id for v in store.list()} == {voice.id, second.id}
    assert other.remove(voice.id)
    assert store.get(voice.id) is None
    assert store.list() == [second]


def test_adding_side_by_side(store):
    threads = [
        threading.Thread(target=store.add, args=(f"Voice {n}", TEXT, True, RECORDING))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(voice.name for voice in store.list()) == [f"Voice {n}" for n in range(6)]


def test_what_is_refused(store, tmp_path):
    for consent, name, transcript, code in (
        (False, "Anna", TEXT, "consent_required"),
        (True, "", TEXT, "invalid_value"),
        (True, "Anna", "", "invalid_value"),
        (True, "Anna", "Hello.", "transcript_mismatch"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            store.add(name, transcript, consent, RECORDING)
        assert caught.value.code == code
    assert not (tmp_path / "data").exists()
    full = VoiceStore(tmp_path / "full", Limits(max_voices=1))
    full.add("Anna", TEXT, True, RECORDING)
    with pytest.raises(InvalidRequest) as caught:
        full.add("Ben", TEXT, True, RECORDING)
    assert caught.value.code == "too_many_voices"


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "voices").write_text("a file")
    store = VoiceStore(tmp_path / "voices", Limits())
    for act in (store.list, lambda: store.add("Anna", TEXT, True, RECORDING)):
        with pytest.raises(WireError) as caught:
            act()
        assert caught.value.code == "storage_failed"
        assert str(tmp_path) not in caught.value.message


def damage_facts(entry: Path, **changes) -> None:
    facts = json.loads((entry / "voice.json").read_text("utf-8"))
    (entry / "voice.json").write_text(json.dumps({**facts, **changes}), "utf-8")


DAMAGES = {
    "empty": lambda entry: (entry / "voice.json").write_bytes(b""),
    "cut off": lambda entry: (entry / "voice.json").write_bytes(b'{"version": 1, "id": "an'),
    "not text": lambda entry: (entry / "voice.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda entry: (entry / "voice.json").write_bytes(b"[]"),
    "nested": lambda entry: (entry / "voice.json").write_bytes(b"[" * 60_000),
    "huge": lambda entry: (entry / "voice.json").write_bytes(b" " * 100_000),
    "missing": lambda entry: (entry / "voice.json").unlink(),
    "a folder": lambda entry: ((entry / "voice.json").unlink(), (entry / "voice.json").mkdir()),
    "no audio": lambda entry: (entry / "audio.flac").unlink(),
    "another's": lambda entry: damage_facts(entry, id="ben"),
    "newer": lambda entry: damage_facts(entry, version=2),
    "no consent": lambda entry: damage_facts(entry, consent=False),
    "no name": lambda entry: damage_facts(entry, name="\u0007"),
    "a number": lambda entry: damage_facts(entry, name=7),
    "no pitch": lambda entry: damage_facts(entry, pitch_hz=float("nan")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_voice_is_set_aside_and_the_rest_load(stored, tmp_path, caplog, damage):
    folder = tmp_path / "voices"
    shutil.copytree(stored, folder)
    shutil.copytree(stored / "anna", folder / "ben")
    damage_facts(folder / "ben", id="ben")
    DAMAGES[damage](folder / "anna")
    store = VoiceStore(folder, Limits())
    for _ in range(2):
        assert [voice.id for voice in store.list()] == ["ben"]
        assert store.get("anna") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("voice anna is damaged and left out: ")
    assert "\n" not in record.getMessage()
    assert store.remove("anna")
    assert not (folder / "anna").exists()


def test_audio_that_is_damaged(stored, tmp_path):
    folder = tmp_path / "voices"
    shutil.copytree(stored, folder)
    (folder / "anna" / "audio.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(InvalidRequest) as caught:
        VoiceStore(folder, Limits()).load_audio("anna")
    assert caught.value.code == "unknown_voice"


def test_links_are_not_followed(stored, tmp_path):
    folder, outside = tmp_path / "voices", tmp_path / "outside"
    shutil.copytree(stored, outside)
    folder.mkdir()
    for name in ("linked", "facts", "audio"):
        shutil.copytree(stored / "anna", outside / name)
        damage_facts(outside / name, id=name)
    (folder / "linked").symlink_to(outside / "linked", target_is_directory=True)
    for name, file in (("facts", "voice.json"), ("audio", "audio.flac")):
        shutil.copytree(outside / name, folder / name)
        (folder / name / file).unlink()
        (folder / name / file).symlink_to(outside / name / file)
    os.mkfifo(folder / "pipe")
    (folder / "fifo").mkdir()
    os.mkfifo(folder / "fifo" / "voice.json")
    before = contents(outside)
    store = VoiceStore(folder, Limits())
    assert store.list() == []
    for name in ("linked", "facts", "audio", "pipe", "fifo"):
        assert store.get(name) is None
        with pytest.raises(InvalidRequest):
            store.load_audio(name)
    assert not store.remove("linked")
    assert not store.remove("pipe")
    assert store.remove("facts")
    assert store.remove("audio")
    assert store.remove("fifo")
    assert contents(outside) == before


HOSTILE = [
    "", ".", "..", "../outside", "..\\outside", "/etc/passwd", "\\\\host\\share", "C:", "C:\\x",
    "anna/", "anna/.", "anna/../anna", "./anna", "anna\0", "\0", "anna\n", "anna ", " anna", "Anna",
    "ANNA", "anna.", "anna::$DATA", "anna:stream", "con", "nul", "aux", "prn", "com0", "com1",
    "lpt9", "CON", "con.txt", "~", "~root", "$HOME", "%2e%2e%2foutside", "..%2foutside", "*", "?",
    "a" * 65, "a" * 5000, "аnna", "anna\u200b", "ａｎｎａ", "anna\u202e", "\ud800", "ﬁ", "ı",
    ".new-x", ".removed-x", ".", "-/-", "voice.json", "anna/voice.json", "anna/audio.flac",
]  # fmt: skip


def hostile_texts(count: int) -> list[str]:
    draw = random.Random(6)
    pieces = ["..", "/", "\\", "\0", "anna", "outside", ".", ":", "%00", "con", "~", "\u2215", "\r"]
    made = {"".join(draw.choices(pieces, k=draw.randint(2, 6))) for _ in range(4 * count)} - {
        "anna"
    }
    return [*HOSTILE, *sorted(made)][:count]


def test_500_hostile_ids(stored, tmp_path):
    folder = tmp_path / "data" / "voices"
    shutil.copytree(stored, folder)
    shutil.copytree(stored / "anna", tmp_path / "data" / "outside")
    before = contents(tmp_path)
    store = VoiceStore(folder, Limits())
    ids = hostile_texts(500)
    assert len(ids) == 500
    for voice_id in ids:
        assert store.get(voice_id) is None, voice_id
        assert not store.remove(voice_id), voice_id
        with pytest.raises(InvalidRequest):
            store.load_audio(voice_id)
    assert [voice.id for voice in store.list()] == ["anna"]
    assert contents(tmp_path) == before


def test_hostile_names_make_plain_ids(store, tmp_path):
    names = [name for name in hostile_texts(60) if name.strip() and len(name) <= 100]
    for name in names:
        try:
            voice, _ = store.add(name, TEXT, True, RECORDING)
        except InvalidRequest as problem:
            assert problem.param == "name"  # noqa: PT017
            continue
        assert voice.name == name.strip()
        assert set(voice.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert store.get(voice.id) == voice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert {path.name for path in store._folder.iterdir()} == {v.id for v in store.list()}


def test_folders_named_by_others_are_left_alone(stored, tmp_path):
    folder = tmp_path / "voices"
    shutil.copytree(stored, folder)
    for name in ("con", "Anna", ".hidden", "a.b", "x" * 65):
        shutil.copytree(stored / "anna", folder / name)
        damage_facts(folder / name, id=name)
    (folder / "notes").write_text("a file")
    store = VoiceStore(folder, Limits())
    assert [voice.id for voice in store.list()] == ["anna"]


def test_what_a_killed_process_left_behind_is_swept(store, tmp_path):
    store.add("Anna", TEXT, True, RECORDING)
    folder = tmp_path / "data" / "voices"
    for name in (".new-old", ".removed-old", ".new-now", ".mine"):
        (folder / name).mkdir()
        (folder / name / "audio.flac").write_bytes(b"half")
    for name in (".new-old", ".removed-old", ".mine"):
        os.utime(folder / name, (1_000_000, 1_000_000))
    store.add("Ben", TEXT, True, RECORDING)
    hidden = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    assert hidden == [".mine", ".new-now"]
    assert len(store.list()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_killed_while_it_writes_leaves_no_half_voice(tmp_path):
    folder = tmp_path / "voices"
    np.save(tmp_path / "a.npy", RECORDING)
    code = (
        "import numpy, os, pathlib, sys\n"
        "from tts_provider.config import Limits\n"
        "from tts_provider.voices import store\n"
        "write = store._write_file\n"
        "def die(path, data):\n"
        "    write(path, data)\n"
        "    os.kill(os.getpid(), 9)\n"
        "store._write_file = die\n"
        "audio = numpy.load('a.npy')\n"
        "store.VoiceStore(pathlib.Path('voices'), Limits()).add('A', sys.argv[1], True, audio)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, TEXT], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    assert len(list(folder.iterdir())) == 1
    assert VoiceStore(folder, Limits()).list() == []

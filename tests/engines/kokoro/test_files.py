"""Where Kokoro's files come from: a folder, the cache, the hub; and which engine speaks then."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import forks
from engines.csm.files.hub_server import COMMIT, Hub, running_hub
from engines.kokoro.small_kokoro import SMALL, write_folder
from servers import PATIENCE_S, clean_environment, run_cli
from tts_provider.config import load_settings
from tts_provider.engines.kokoro import KOKORO_REPOSITORY
from tts_provider.engines.kokoro.files import REVISION, find_cached, find_folder
from tts_provider.engines.kokoro.voices import GAINS, PACK_BYTES
from tts_provider.errors import StartupError
from tts_provider.selection import build_engine, choose_embedded, choose_engine

PACKS = {
    f"voices/{name}.bin": bytes([number]) * PACK_BYTES
    for number, name in enumerate(("af_heart", "am_michael", "af_sky"))
}
FILES = {
    "onnx/model_quantized.onnx": SMALL,
    "onnx/model.onnx": b"float32" * 2000,
    "onnx/model_q4.onnx": b"q4",
    "config.json": b"{}",
    "voices/readme.txt": b"no voice",
    **PACKS,
}

FETCH = """
import json
from tts_provider.engines.hub.blob import Retry
from tts_provider.engines.kokoro.files import fetch
from tts_provider.errors import StartupError
said = []
try:
    files = fetch({precision!r}, {wanted!r}, said.append, revision={revision!r},
                  retry=Retry(attempts=2, wait_s=0))
    result = {{"graph": str(files.graph), "voices": list(files.voices), "sha256": files.sha256}}
except StartupError as error:
    result = {{"error": str(error)}}
print(json.dumps({{**result, "said": said}}))
"""


def fetch(
    home: Path, hub: Hub | str, precision: str = "int8", wanted: tuple[str, ...] = (), **more: str
) -> dict:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    code = FETCH.format(precision=precision, wanted=wanted, revision=COMMIT)
    finished = forks.run(
        [sys.executable, "-W", "error", "-c", code],
        env=clean_environment(home, HF_HOME=str(home / "hf"), HF_ENDPOINT=endpoint, **more),
        text=True,
        timeout=PATIENCE_S,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return json.loads(finished.stdout)


# The hub


def test_the_graph_and_all_voices_come_without_a_token(tmp_path):
    with running_hub({KOKORO_REPOSITORY: FILES}) as hub:
        made = fetch(tmp_path, hub)
        assert hub.files_asked_for() == sorted(["onnx/model_quantized.onnx", *PACKS])
        assert all(request.token is None for request in hub.requests)
    assert Path(made["graph"]).read_bytes() == SMALL
    assert sorted(made["voices"]) == ["af_heart", "af_sky", "am_michael"]
    assert made["sha256"].startswith("fbae9257")


def test_only_the_voices_that_are_asked_for_and_float32_where_it_is(tmp_path):
    with running_hub({KOKORO_REPOSITORY: FILES}) as hub:
        made = fetch(tmp_path, hub, "float32", ("af_heart",))
        assert hub.files_asked_for() == ["onnx/model.onnx", "voices/af_heart.bin"]
    assert made["voices"] == ["af_heart"]


def test_a_download_that_broke_goes_on_where_it_broke(tmp_path):
    name, mib = "onnx/model_quantized.onnx", 1024 * 1024
    files = {**FILES, name: 3 * mib * b"g"}
    with running_hub({KOKORO_REPOSITORY: files}, cuts={name: [2 * mib, 0, 0]}) as hub:
        broken = fetch(tmp_path, hub, wanted=("af_heart",))
        assert "broke off at 2.1 MB of 3.1 MB" in broken["error"]
        assert fetch(tmp_path, hub, wanted=("af_heart",))["voices"] == ["af_heart"]
        assert f"bytes={2 * mib}-" in hub.ranges()


REFUSALS = {
    "no such voice": ({}, ("af_nobody",), "on the hub has no voices/af_nobody.bin"),
    "hub down": ({"status": 503}, (), "use files that are here with --kokoro-path FOLDER"),
    "another page": ({"page": b"<html>"}, (), "does not answer as a Hugging Face hub does"),
}


@pytest.mark.parametrize(("options", "wanted", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_sentence_with_its_remedy(tmp_path, options, wanted, words):
    with running_hub({KOKORO_REPOSITORY: FILES}, **options) as hub:
        assert words in fetch(tmp_path, hub, wanted=wanted)["error"]


def test_no_network_names_the_folder_that_needs_none(tmp_path, unused_tcp_port):
    error = fetch(tmp_path, f"http://127.0.0.1:{unused_tcp_port}")["error"]
    assert error.startswith("cannot reach http://127.0.0.1")
    assert "--kokoro-path FOLDER" in error


# The cache


@pytest.fixture
def cache(tmp_path):
    """Complete, and 92 MB of nothing: a sparse file."""
    name = "models--onnx-community--Kokoro-82M-v1.0-ONNX"
    snapshot = tmp_path / "hf" / "hub" / name / "snapshots" / REVISION
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "voices").mkdir()
    with (snapshot / "onnx" / "model_quantized.onnx").open("wb") as file:
        file.truncate(92_361_116)
    for voice in GAINS:
        (snapshot / "voices" / f"{voice}.bin").write_bytes(bytes(PACK_BYTES))
    return tmp_path / "hf" / "hub"


def test_a_complete_cache_needs_no_network(cache):
    files = find_cached(cache, "int8")
    assert files is not None
    assert set(files.voices) == set(GAINS)
    assert find_cached(cache, "float32") is None


def test_what_is_not_complete_is_not_taken(cache):
    snapshot = next(cache.glob("*/snapshots/*"))
    (snapshot / "voices" / "zm_yunyang.bin").unlink()
    assert find_cached(cache, "int8") is None
    assert find_cached(cache, "int8", ("af_heart",)) is not None
    with (snapshot / "onnx" / "model_quantized.onnx").open("r+b") as file:
        file.truncate(1000)
    assert find_cached(cache, "int8", ("af_heart",)) is None


def test_auto_takes_what_is_in_the_cache_and_doctor_says_so(cache):
    home = cache.parent
    settings = load_settings({"HF_HOME": home})
    choice = choose_engine(settings)
    assert choice.engine == "kokoro"
    assert "54 voices" in choice.reason
    assert choose_embedded(settings).engine == "hibari"
    report = run_cli(home, "doctor", env=clean_environment(home, HF_HOME=str(home))).stdout
    assert "engine: kokoro, because CSM-1B was not found" in report
    assert "model_quantized.onnx, 54 voices" in report
    damaged = run_cli(home, "serve", "--port", "0", env=clean_environment(home, HF_HOME=str(home)))
    assert damaged.returncode == 1
    assert "is damaged: its SHA-256 is" in damaged.stderr


# A folder


def test_a_folder_is_taken_as_it_is(tmp_path):
    folder = write_folder(tmp_path / "kokoro")
    (folder / "voices" / "My Voice.bin").write_bytes(bytes(PACK_BYTES))
    (folder / "voices" / "af_cut.bin").write_bytes(b"cut")
    files = find_folder(folder, "int8")
    assert files.graph.name == "model_quantized.onnx"
    assert len(files.voices) == 7
    assert list(find_folder(folder, "int8", ("bf_emma",)).voices) == ["bf_emma"]
    settings = load_settings({"kokoro_path": folder, "data_dir": tmp_path / "data"})
    choice = choose_engine(settings)
    assert choice.engine == "kokoro"
    engine = build_engine(choice, settings)
    voices = [voice.id for voice in engine.voices()]
    assert voices[:2] == ["am_michael", "af_heart"]
    assert {"male", "espeak:de"} <= {*voices}
    assert engine.own_max_streams == 2 * engine.of(engine.voices()[0])._pools.listened._max_workers
    assert engine.mixture("af_heart+af_sky").id == "af_heart+af_sky"
    assert engine.of(engine.mixture("af_heart+af_sky")).name == "kokoro"


WRONG = {
    "missing": (lambda folder: folder / "nowhere", "does not exist; it is a folder with"),
    "a file": (lambda folder: folder / "model_quantized.onnx", "is a file, not a folder"),
    "no graph": (lambda folder: folder / "voices", r"has no \*\.onnx"),
}


@pytest.mark.parametrize(("place", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_folder_is_one_sentence(tmp_path, place, reason):
    with pytest.raises(StartupError, match=reason):
        find_folder(place(write_folder(tmp_path / "kokoro")), "int8")


def test_a_folder_of_another_precision_or_without_the_voice_says_so(tmp_path):
    folder = write_folder(tmp_path / "kokoro")
    with pytest.raises(StartupError, match=r"no graph of float32, only model_quantized\.onnx"):
        find_folder(folder, "float32")
    with pytest.raises(StartupError, match="has no voice 'zf_xiaobei'"):
        find_folder(folder, "int8", ("zf_xiaobei",))
    for path in folder.glob("voices/*"):
        path.unlink()
    with pytest.raises(StartupError, match=r"has no voices/\*\.bin"):
        find_folder(folder, "int8")


def test_a_wrong_folder_ends_the_start_with_exit_code_2(tmp_path):
    ended = run_cli(tmp_path, "serve", "--kokoro-path", "nowhere", "--port", "0")
    assert ended.returncode == 2
    assert "--kokoro-path nowhere does not exist" in ended.stderr.splitlines()[-1]

"""The real hub client against a hub on loopback.

huggingface_hub reads its settings when it is imported, so every download runs in a process of its
own, warnings as errors.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import forks
from engines.csm.files.hub_server import COMMIT, Hub, checksum, running_hub
from engines.csm.files.repositories import (
    CACHE_NAME,
    EVERYTHING,
    MIB,
    MIMI,
    NEEDED,
    ORIGINAL,
    SHARDS,
    WEIGHTS,
    safetensors,
    write,
)
from servers import PATIENCE_S, clean_environment
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.files import hub as csm_hub
from tts_provider.engines.csm.files.snapshot import resolve_model_path
from tts_provider.errors import StartupError

TOKEN = "hf_aVeryGoodTokenIndeed"

DOWNLOAD = """
import json, sys
from pathlib import Path
from tts_provider.engines.csm.files import hub
from tts_provider.errors import StartupError
said = []
try:
    {action}
    result = {{"folder": str(folder)}}
except StartupError as error:
    result = {{"error": str(error)}}
print(json.dumps({{**result, "said": said}}))
"""
CSM = "folder = hub.download_csm(said.append, retry=hub.Retry(attempts=2, wait_s=0))"


@dataclass(frozen=True)
class Outcome:
    folder: Path | None
    error: str
    said: list[str]
    output: str


class Client:
    """A process that downloads, with a Hugging Face home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = home / "hub" / CACHE_NAME

    def run(self, hub: Hub | str, action: str = CSM, **environment: str) -> Outcome:
        endpoint = hub if isinstance(hub, str) else hub.endpoint
        environment = {"HF_HOME": str(self.home), "HF_ENDPOINT": endpoint, **environment}
        finished = forks.run(
            [sys.executable, "-W", "error", "-c", DOWNLOAD.format(action=action)],
            env=clean_environment(self.home.parent, **environment),
            text=True,
            timeout=PATIENCE_S,
        )
        output = finished.stdout + finished.stderr
        assert finished.returncode == 0, output
        # No bar, no log and no trace where nobody watches a terminal; and never the token.
        assert finished.stderr == ""
        assert TOKEN not in output
        result = json.loads(finished.stdout)
        error = result.get("error", "")
        assert "\n" not in error
        folder = Path(result["folder"]) if "folder" in result else None
        return Outcome(folder, error, result["said"], output)

    def partial(self, name: str) -> Path:
        return self.repository / "blobs" / f"{checksum(NEEDED[name])}.growing.incomplete"


@pytest.fixture
def client(tmp_path):
    return Client(tmp_path / "huggingface")


@pytest.fixture
def closed_port(unused_tcp_port):
    return f"http://127.0.0.1:{unused_tcp_port}"


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# The download


def test_the_download_takes_only_what_is_needed_and_keeps_it_as_the_hubs_client_does(client):
    with running_hub(EVERYTHING) as hub:
        outcome = client.run(hub)
    assert outcome.folder == client.repository / "snapshots" / COMMIT
    assert files_of(outcome.folder) == NEEDED
    assert hub.files_asked_for() == sorted(name for name, body in NEEDED.items() if body)
    assert (client.repository / "refs" / "main").read_text() == COMMIT
    assert (outcome.folder / SHARDS[0]).is_symlink()
    blobs = {path.name for path in (client.repository / "blobs").iterdir()}
    assert blobs == {checksum(body) for body in NEEDED.values()}
    assert resolve_model_path(client.repository) == outcome.folder
    # The client itself agrees that this is the whole snapshot.
    check = (
        "from huggingface_hub import snapshot_download\n    "
        f"folder = snapshot_download('{CSM_REPOSITORY}', local_files_only=True)"
    )
    assert client.run("http://127.0.0.1:1", check).folder == outcome.folder


def test_a_second_start_asks_nobody(client, closed_port):
    with running_hub(EVERYTHING) as hub:
        first = client.run(hub)
        asked = len(hub.requests)
        assert client.run(hub).folder == first.folder
        assert len(hub.requests) == asked
    second = client.run(closed_port)
    assert second.folder == first.folder
    assert client.run(closed_port, HF_HUB_OFFLINE="1").folder == first.folder
    assert second.said == [f"{CSM_REPOSITORY} is in {first.folder}"]


def test_a_download_says_what_it_fetches_and_how_much(client):
    # Large enough to be worth a line.
    large = {**NEEDED, SHARDS[0]: safetensors("a", data_bytes=10 * MIB)}
    with running_hub({CSM_REPOSITORY: large}) as hub:
        said = client.run(hub).said
    assert said == [
        f"downloading {SHARDS[0]} of {CSM_REPOSITORY} (10.5 MB of 10.5 MB to go, file 1 of 12)"
    ]


def test_the_token_goes_to_the_hub_and_never_to_the_cdn(client):
    with running_hub(EVERYTHING, token=TOKEN) as hub:
        assert client.run(hub, HF_TOKEN=TOKEN).folder
    to_cdn = {request.token for request in hub.requests if request.path.startswith("/cdn/")}
    to_hub = {request.token for request in hub.requests if not request.path.startswith("/cdn/")}
    assert (to_cdn, to_hub) == ({None}, {TOKEN})


def test_a_repository_without_the_transformers_layout_gives_what_it_has(client):
    with running_hub({CSM_REPOSITORY: {**ORIGINAL, "README.md": b""}}) as hub:
        assert set(files_of(client.run(hub).folder)) == {"model.safetensors"}
    with running_hub({CSM_REPOSITORY: {"README.md": b"moved"}}) as hub:
        empty = Client(client.home.parent / "other")
        assert "no weights that this version knows" in empty.run(hub).error


def test_two_servers_that_start_at_once_share_one_download(client):
    with running_hub(EVERYTHING) as hub, ThreadPoolExecutor() as pool:
        first, second = pool.map(client.run, [hub, hub])
    assert first.folder == second.folder
    assert files_of(first.folder) == NEEDED
    assert (first.folder / SHARDS[0]).is_symlink()
    from_cdn = [request.path for request in hub.requests if request.path.startswith("/cdn/")]
    assert len(from_cdn) == len(set(from_cdn))


# Fine-tunes, open copies and adapters


FINE_TUNE = "someone/her-voice"
MODEL = f"folder = hub.download_model({FINE_TUNE!r}, said.append)"
CONFIGS = {name: NEEDED[name] for name in ("config.json", "generation_config.json")}
LAYOUTS = {
    "the transformers layout": WEIGHTS,
    "one file": {"model.safetensors": safetensors("backbone_model.a")},
    "one file of another name": {"tuned.safetensors": safetensors("backbone_model.a")},
    "the original layout": ORIGINAL,
    "an adapter": {
        "adapter_config.json": b'{"peft_type": "LORA"}',
        "adapter_model.safetensors": safetensors("a.lora_A.weight"),
    },
}


@pytest.mark.parametrize("weights", LAYOUTS.values(), ids=LAYOUTS)
def test_any_repository_with_a_known_layout_is_fetched_and_then_found(client, closed_port, weights):
    unwanted = {"README.md": b"#", "optimizer.pt": 5000 * b"o", "runs/model.safetensors": b"no"}
    with running_hub({FINE_TUNE: {**weights, **CONFIGS, **unwanted}}) as hub:
        folder = client.run(hub, MODEL).folder
    wanted = {name: body for name, body in weights.items() if name != "ckpt.pt"}
    assert files_of(folder) == {**wanted, **CONFIGS}
    again = client.run(closed_port, MODEL)
    assert again.folder == folder
    assert again.said == [f"{FINE_TUNE} is in {folder}"]


def test_an_adapter_brings_its_base_its_codec_and_its_tokenizer(client, tmp_path):
    """`--mode download --adapter DIR`, or a repository that is one: nothing else is asked for."""
    adapter = {
        "adapter_config.json": json.dumps(
            {"peft_type": "LORA", "base_model_name_or_path": "open/csm-1b"}
        ).encode(),
        "adapter_model.safetensors": safetensors("a.lora_A.weight"),
    }
    repositories = {
        FINE_TUNE: adapter,
        "open/csm-1b": {"model.safetensors": ORIGINAL["model.safetensors"], **CONFIGS},
        **{name: files for name, files in EVERYTHING.items() if name != CSM_REPOSITORY},
    }
    lora = write(tmp_path / "lora_model", adapter)
    action = """
    from tts_provider.config import Settings
    from tts_provider.engines.csm.files.locate import locate
    settings = Settings(_env_file=None, mode="download", **{settings!r})
    files = locate(settings, said.append, may_download=True)
    folder = json.dumps([str(each) for each in (files.folder, files.mimi, files.tokenizer)])
    """
    with running_hub(repositories, token=None) as hub:
        for settings in ({"adapter": str(lora)}, {"model": FINE_TUNE}):
            outcome = client.run(hub, action.replace("{settings!r}", repr(settings)).strip())
            base, mimi, tokenizer = json.loads(str(outcome.folder))
            assert "models--open--csm-1b" in base
            assert files_of(Path(mimi)) == MIMI
            assert Path(tokenizer).read_bytes() == NEEDED["tokenizer.json"]
            assert outcome.error == ""


def test_a_repository_without_weights_says_what_it_has(client):
    with running_hub({FINE_TUNE: {"csm.Q4_K.gguf": b"GGUF", "README.md": b"#"}}) as hub:
        error = client.run(hub, MODEL).error
    assert error.startswith(f"{FINE_TUNE} on the hub has no weights that this version knows")
    assert "it has README.md, csm.Q4_K.gguf: choose the model that it was made from" in error


# Breaks


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_download_goes_on_where_it_broke(client, reset):
    cuts = {SHARDS[0]: [2 * MIB + 100_000]}
    with running_hub(EVERYTHING, cuts=cuts, resets=reset) as hub:
        outcome = client.run(hub)
    assert files_of(outcome.folder) == NEEDED
    ranges = [wanted for wanted in hub.ranges() if wanted is not None]
    if not reset:  # a reset may take what the client had not read yet along
        assert ranges == [f"bytes={2 * MIB}-"]
    assert len(hub.ranges()) == 1 + sum(len(body) >= 4096 for body in NEEDED.values())


def test_breaks_that_gain_nothing_end_in_a_sentence_and_the_next_start_goes_on(client):
    with running_hub(EVERYTHING, cuts={SHARDS[0]: [2 * MIB + 100_000, 0, 0]}) as hub:
        assert client.run(hub).error == (
            f"the download of {SHARDS[0]} broke off at 2.1 MB of 3.1 MB (the connection broke: "
            "RemoteProtocolError); start again to go on from there"
        )
        assert not (client.repository / "refs" / "main").exists()
        with pytest.raises(StartupError, match="holds no snapshot yet"):
            resolve_model_path(client.repository)
        hub.requests.clear()
        assert files_of(client.run(hub).folder) == NEEDED
    assert f"bytes={2 * MIB}-" in hub.ranges()


def test_a_hub_that_ignores_ranges_sends_the_file_again(client):
    cuts = {SHARDS[0]: [2 * MIB + 100_000]}
    with running_hub(EVERYTHING, cuts=cuts, ignores_range=True) as hub:
        assert files_of(client.run(hub).folder) == NEEDED


def test_a_damaged_file_is_fetched_again_and_twice_is_too_often(client):
    with running_hub(EVERYTHING, damage={SHARDS[1]: 1}) as hub:
        assert files_of(client.run(hub).folder) == NEEDED
    other = Client(client.home.parent / "other")
    with running_hub(EVERYTHING, damage={SHARDS[1]: 2}) as hub:
        assert f"{SHARDS[1]} arrived damaged twice" in other.run(hub).error
    assert not other.partial(SHARDS[1]).exists()


def test_a_file_cut_short_on_the_disk_is_fetched_again(client):
    with running_hub(EVERYTHING) as hub:
        folder = client.run(hub).folder
        os.truncate(folder / SHARDS[0], MIB)
        hub.requests.clear()
        assert files_of(client.run(hub).folder) == NEEDED
    assert hub.files_asked_for() == [SHARDS[0]]


def test_what_lacks_only_prompts_is_completed_or_taken_as_it_is(client, closed_port):
    with running_hub(EVERYTHING) as hub:
        folder = client.run(hub).folder
        for prompt in folder.glob("prompts/*"):
            prompt.resolve().unlink()
            prompt.unlink()
        offline = client.run(closed_port)
        assert offline.folder == folder
        assert f"using the files in {folder}: cannot reach" in offline.said[-1]
        hub.requests.clear()
        client.run(hub)
    assert files_of(folder) == NEEDED
    assert hub.files_asked_for() == sorted(name for name in NEEDED if "prompts" in name)


# Refusals


REFUSALS = {
    "no token": (
        {"token": TOKEN},
        "",
        "gives sesame/csm-1b only to accounts that accepted its terms; accept them at "
        "https://huggingface.co/sesame/csm-1b, then set HF_TOKEN",
    ),
    "no token, gated": (
        {"token": TOKEN, "gated": True},
        "",
        "accept them at https://huggingface.co/sesame/csm-1b, then set HF_TOKEN",
    ),
    "token refused": ({"token": TOKEN}, "hf_expired", "refuses the token in HF_TOKEN (401)"),
    "terms not accepted": (
        {"token": TOKEN, "gated": True},
        TOKEN,
        "the account of HF_TOKEN has not accepted the terms of sesame/csm-1b; accept them at "
        "https://huggingface.co/sesame/csm-1b and start again",
    ),
    "token without the right": ({"status": 403}, TOKEN, "may not read sesame/csm-1b (403)"),
    "not a token": ({}, "hf_tökén", "HF_TOKEN is not a Hugging Face token"),
    "no repository": ({"repositories": {}}, "", "has no sesame/csm-1b (404)"),
    "hub down": ({"status": 503}, "", "it answers 503"),
    "too many requests": ({"status": 429}, "", "it answers 429"),
    "sign-in page": ({"page": b"<html>Welcome"}, "", "does not answer as a Hugging Face hub does"),
    "other JSON": ({"page": b"[]"}, "", "does not answer as a Hugging Face hub does"),
    "disk too small": (
        {"listed_bytes": {SHARDS[0]: 10**18}},
        "",
        "needs 1000000000.0 GB more and its disk has",
    ),
}


@pytest.mark.parametrize(("options", "token", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_sentence_with_its_remedy(client, options, token, words):
    with running_hub(**{"repositories": EVERYTHING, **options}) as hub:
        outcome = client.run(hub, HF_TOKEN=token)
    assert words in outcome.error
    assert token == "" or token not in outcome.output
    assert not (client.repository / "refs").exists()


def test_an_unknown_revision_is_named(client):
    with running_hub(EVERYTHING) as hub:
        outcome = client.run(hub, "folder = hub.download_csm(said.append, 'v9')")
    assert outcome.error == f"{CSM_REPOSITORY} on {hub.endpoint} has no revision 'v9'"


@pytest.mark.parametrize("endpoint", ["closed", "no-such-scheme"])
def test_no_network_says_so_and_names_reuse(client, closed_port, endpoint):
    error = client.run(closed_port if endpoint == "closed" else endpoint).error
    assert error.startswith(f"cannot reach {closed_port if endpoint == 'closed' else endpoint}")
    assert "--mode reuse" in error


def test_offline_mode_is_named(client, closed_port):
    assert "HF_HUB_OFFLINE forbids" in client.run(closed_port, HF_HUB_OFFLINE="1").error


# The disk


def test_a_full_disk_names_the_folder_and_its_free_space(client):
    # The kernel's own ENOSPC: what is fetched grows into /dev/full.
    client.partial(SHARDS[0]).parent.mkdir(parents=True)
    client.partial(SHARDS[0]).symlink_to("/dev/full")
    with running_hub(EVERYTHING) as hub:
        error = client.run(hub).error
    assert error.startswith(f"the disk is full: {client.repository} has ")
    assert "set HF_HOME to a folder on another disk" in error


def test_a_file_system_that_takes_no_large_file_is_named(client):
    # Past RLIMIT_FSIZE the kernel gives EFBIG, as FAT32 does past 4 GB (Python ignores SIGXFSZ).
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, 2 * ({2 * MIB},)); "
    with running_hub(EVERYTHING) as hub:
        error = client.run(hub, limit + CSM).error
    assert error.startswith(f"the file system of {client.repository} takes no file this large")


def test_a_home_that_cannot_be_written_is_named(client, tmp_path):
    (tmp_path / "file").touch()
    home = Client(tmp_path / "file" / "home")
    with running_hub(EVERYTHING) as hub:
        error = home.run(hub, HOME=str(tmp_path)).error
    reason = os.strerror(errno.ENOTDIR)
    assert error == (
        f"cannot write to {home.repository} ({reason}); set HF_HOME to a folder that can be written"
    )


# Tokenizer and codec


def test_what_the_original_layout_lacks_is_downloaded(client, tmp_path):
    folder = write(tmp_path / "model", ORIGINAL)
    action = (
        f"files = hub.find_files(Path({str(folder)!r}), may_download=True, on_progress=said.append)"
        "; folder = json.dumps([str(files.mimi), str(files.tokenizer)])"
    )
    with running_hub(EVERYTHING) as hub:
        mimi, tokenizer = json.loads(str(client.run(hub, action).folder))
    assert files_of(Path(mimi)) == MIMI
    assert Path(tokenizer).read_bytes() == NEEDED["tokenizer.json"]
    assert hub.files_asked_for() == ["config.json", "model.safetensors", "tokenizer.json"]


def test_the_module_imports_no_hub_client():
    program = (
        "import sys, tts_provider.engines.csm.files.hub; print('huggingface_hub' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
    assert csm_hub.CSM_REPOSITORY == "sesame/csm-1b"

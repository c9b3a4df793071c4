"""`tts-provider doctor`: what is here, which engine would speak, and what to do next.

It looks and never changes anything: no download, no prepared weights, no port left open.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tts_provider import __version__
from tts_provider.config import ENV_FILE, Settings
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.build import choose_device, find_snapshots, may_download
from tts_provider.engines.hub.cache import hub_cache
from tts_provider.engines.kokoro.build import find_files
from tts_provider.errors import StartupError, TTSError
from tts_provider.keys.store import has_keys
from tts_provider.selection import ENGINES, Choice, build_engine, choose_engine
from tts_provider.server.logs import printable

if TYPE_CHECKING:
    from tts_provider.engines.csm.files.snapshot import ModelFiles

_PACKAGES = (
    "hibari-tts",
    "espeakng-loader",
    "resemble-perth",
    "c2pa-python",
    "onnxruntime",
    "torch",
    "av",
    "huggingface-hub",
    "uvicorn",
    "websockets",
    "fastapi",
)
_OPTIONAL = {
    "espeakng-loader": "a hundred languages; pip install 'tts-provider[espeak]'",
    "resemble-perth": "the watermark; pip install 'tts-provider[watermark]'",
    "c2pa-python": "signed manifests; pip install 'tts-provider[c2pa]'",
    "torch": "only for CUDA; pip install 'tts-provider[cuda]'",
}
_PATIENCE_S = 2.0
_FREE, _OURS, _ANOTHER = "free", "taken by a running", "taken by another program"


def print_report(settings: Settings) -> None:
    # Paths are printed whole, to be copied: no wrapping and no markup in values.
    console = Console(soft_wrap=True, highlight=False)
    choice = choose_engine(settings)
    port = _look_at_port(settings)
    console.print(f"[bold]tts-provider {__version__}[/]")
    _print_facts(console, "installed", _installed())
    server = _look_at_server(settings, port)
    facts = {**_configured(settings), "port": port, "say speaks through": server}
    _print_facts(console, "settings", facts)
    _print_facts(console, "engines", _engines(settings))
    if settings.engine_urls:
        _print_facts(console, "replicas", _replicas(settings))
    _print_facts(console, "CSM-1B", _model(settings))
    _print_facts(console, "Kokoro-82M", _kokoro(settings))
    _print_facts(console, "voices", _voices(settings))
    console.print(f"[bold]engine:[/] {choice.engine}, because {escape(printable(choice.reason))}")
    if choice.warning:
        console.print(f"[bold]note:[/] {escape(printable(choice.warning))}")
    console.print(f"[bold]next:[/] {escape(printable(_next_step(settings, choice, port)))}")


def _print_facts(console: Console, title: str, facts: dict[str, str]) -> None:
    console.print(f"[bold]{title}[/]")
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"  {name:{width}}  {escape(printable(value))}")


def _installed() -> dict[str, str]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    facts = {"Python": f"{python}, {sys.executable}", "CPUs": str(available_cpus())}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            needed = _OPTIONAL.get(package)
            facts[package] = "missing" if needed is None else f"not installed ({needed})"
    facts["CUDA"] = _cuda()
    return facts


def _engines(settings: Settings) -> dict[str, str]:
    return {
        entry.name: "; ".join(filter(None, [entry.about, entry.find(settings) or entry.missing]))
        for entry in ENGINES
    }


def _replicas(settings: Settings) -> dict[str, str]:
    """What each address says of itself."""
    from tts_provider.engines.remote.build import look_at

    return {url: look_at(url, settings, _PATIENCE_S) for url in settings.engine_urls}


def _cuda() -> str:
    from tts_provider.engines.csm.torch.device import has_driver, why_no_cuda

    # PyTorch takes seconds to import: not where there is no GPU anyway.
    if not has_driver():
        return "no NVIDIA driver"
    return why_no_cuda() or "ready"


def _configured(settings: Settings) -> dict[str, str]:
    return {
        ".env": str(ENV_FILE.resolve()) if ENV_FILE.exists() else "none in this folder",
        "data folder": str(settings.data_dir),
        "API keys": _keys(settings),
        "listens on": f"{settings.host}:{settings.port}",
        "idle models": _unloading(settings.unload_after_s),
    }


def _keys(settings: Settings) -> str:
    try:
        with_names = has_keys(settings.data_dir)
    except StartupError as error:
        return str(error)
    if with_names:
        return "with names; tts-provider keys list shows them"
    return str(len(settings.api_keys) or "none: everyone who reaches the port can use the server")


def _unloading(after_s: float | None) -> str:
    if after_s is None:
        return "stay in memory; --unload-after SECONDS frees it between requests"
    return f"are unloaded after {after_s:g} s, and loaded again by the next request"


def _look_at_port(settings: Settings) -> str:
    """Whether a server can have the port; who has it else."""
    from tts_provider.server.lifecycle import bind, listen

    try:
        listeners = bind(settings.host, settings.port)
        try:
            listen(listeners, settings.host)
        finally:
            for listener in listeners:
                listener.close()
    except StartupError as error:
        return _whose_port(settings) or str(error)
    return _FREE


def _look_at_server(settings: Settings, port: str) -> str:
    """Which one `tts-provider say` finds with these settings."""
    url = settings.server_url
    if settings.url is None:
        is_there = port.startswith(_OURS)
        return url if is_there else f"the embedded voice, because no server is at {url}"
    from tts_provider.client import TTSClient, TTSClientError

    key = settings.api_keys[0].get_secret_value() if settings.api_keys else None
    try:
        with TTSClient(url, api_key=key, ca_file=settings.ca, attempts=1) as client:
            return f"{url}, {client.info()['engine']}"
    except TTSClientError as error:
        return f"{url}, which does not answer: {error}"


def _whose_port(settings: Settings) -> str | None:
    """Who answers at the port; None where nobody does."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    try:
        socket.create_connection((host, settings.port), _PATIENCE_S).close()
    except OSError:
        return None
    connection = http.client.HTTPConnection(host, settings.port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/")
        first_line = (
            connection.getresponse().read(200).partition(b"\n")[0].decode("utf-8", "replace")
        )
    except (OSError, http.client.HTTPException):
        return _ANOTHER
    finally:
        connection.close()
    if not first_line.startswith("tts-provider "):
        return _ANOTHER
    return f"{_OURS} {first_line}{_state(host, settings.port)}"


def _state(host: str, port: int) -> str:
    """What a server of ours says of its model, where that is not loaded."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/ready")
        facts = json.loads(connection.getresponse().read(1000))
        model, status = facts.get("model"), facts["status"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, AttributeError, TypeError):
        return ""
    finally:
        connection.close()
    if model == "unloaded":
        return ", whose model is unloaded and loads on the next request"
    if "loading" in (model, status):
        return ", whose model is loading"
    return "" if status == "ready" else f", which is not ready: {status}"


def _model(settings: Settings) -> dict[str, str]:
    home = hub_cache(settings)
    facts = {
        "HF_TOKEN": "set" if settings.hf_token else _login(home),
        "Hugging Face cache": str(home),
    }
    given = ("model_path", "model", "adapter")
    if chosen := [name for name in given if getattr(settings, name) is not None]:
        facts[f"--{chosen[0].replace('_', '-')}"] = _weights_of(settings)
    for number, snapshot in enumerate(find_snapshots(settings), 1):
        only_this = {"model": None, "adapter": None, "model_path": snapshot}
        facts[f"snapshot {number}"] = _weights_of(settings.model_copy(update=only_this))
    if len(facts) == 2:
        facts["weights"] = "none found"
    prepared = sorted(_files(settings.data_dir / "weights"))
    gigabytes = sum(path.stat().st_size for path in prepared) / 1e9
    facts["prepared weights"] = f"{gigabytes:.1f} GB in {settings.data_dir / 'weights'}"
    if not prepared:
        facts["prepared weights"] = "none yet; the first start prepares them"
    return facts


def _kokoro(settings: Settings) -> dict[str, str]:
    prepared = [path for path in _files(settings.data_dir / "kokoro") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in prepared) / 1e6
    facts = {"files": "none found; --engine kokoro downloads them, 120 MB, without a token"}
    try:
        files = find_files(settings)
    except StartupError as error:
        return {"files": str(error)}
    if files is not None:
        facts["files"] = f"{files.graph}, {len(files.voices)} voices"
    facts["prepared files"] = f"{megabytes:.0f} MB in {settings.data_dir / 'kokoro'}"
    if not prepared:
        facts["prepared files"] = "none yet; the first start prepares them"
    return facts


def _login(cache: Path) -> str:
    token = Path(os.environ.get("HF_TOKEN_PATH", cache.parent / "token")).expanduser()
    if token.is_file():
        return f"not set; --mode download uses the login in {token}"
    return "not set"


def _weights_of(settings: Settings) -> str:
    try:
        files = _open(settings)
    except TTSError as error:
        # The sentence names the folder.
        return str(error)
    prompts = sorted(path.stem for path in files.folder.glob("prompts/*.wav"))
    heard = ", ".join(prompts) if prompts else "none, so the voice may differ between utterances"
    adapter = "" if files.adapter is None else f", with the adapter in {files.adapter}"
    return f"complete in {files.folder}{adapter}; voice prompts: {heard}"


def _open(settings: Settings) -> ModelFiles:
    """What `serve` would open, from what is here. Raises the error that it would end with."""
    from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint
    from tts_provider.engines.csm.files.locate import locate
    from tts_provider.engines.csm.tokenizer import Tokenizer

    files = locate(settings, _ignore, may_download=False)
    checkpoint = open_checkpoint(files.folder, files.adapter)
    find_codec(checkpoint, files.mimi)
    Tokenizer(files.tokenizer, checkpoint.config.text_vocabulary)
    return files


def _ignore(_line: str) -> None:
    pass


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _voices(settings: Settings) -> dict[str, str]:
    from tts_provider.voices.store import open_store

    try:
        stored = open_store(settings).list() if settings.data_dir.exists() else []
    except TTSError as error:
        return {"enrolled": str(error)}
    names = ", ".join(voice.id for voice in stored[:8]) + (", …" if len(stored) > 8 else "")
    return {"enrolled": f"{len(stored)}: {names}" if stored else "none"}


def _next_step(settings: Settings, choice: Choice, port: str) -> str:
    try:
        if choice.engine == "kokoro" and find_files(settings) is None:
            return "tts-provider serve downloads Kokoro-82M into the Hugging Face cache, 120 MB"
        if choice.engine != "csm":  # which would be downloaded
            build_engine(choice, settings)
        else:
            choose_device(settings)
            if (step := _fetch_step(settings)) is not None:
                return step
    except StartupError as error:
        return str(error)
    if port.startswith(_OURS):
        return "a server runs already: tts-provider say 'Hello there' speaks through it"
    if port != _FREE:
        return f"choose another port than {settings.port}: tts-provider serve --port 8080"
    page = f"http://localhost:{settings.port}/"
    return f"tts-provider serve, then open {page} or tts-provider say 'Hello there'"


def _fetch_step(settings: Settings) -> str | None:
    """What CSM-1B still needs before it can speak. Raises `StartupError` where it cannot."""
    if not may_download(settings):
        _open(settings)
        return None
    try:
        _open(settings)
    except StartupError as error:
        if settings.model is not None or settings.adapter is not None:
            return f"tts-provider serve downloads what is missing: {error}"
        return (
            "tts-provider serve downloads CSM-1B into the Hugging Face cache once (its terms must "
            f"be accepted at https://huggingface.co/{CSM_REPOSITORY} by the account of your token)"
        )
    return None

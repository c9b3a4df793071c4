"""What the documentation says about files, commands, settings, metrics and figures is so."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import httpx2
import pytest

from docs.markdown import PAGES, blocks, read
from engines.remote.running import running_replica
from servers import REPOSITORY, run_cli, running_server
from tts_provider.config import Settings
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.engines.unloading import ModelMetrics, UnloadingEngine
from tts_provider.keys.store import KeyStore

PACKAGE = REPOSITORY / "src" / "tts_provider"
ROOMS, TREE = (
    next(block.text for block in blocks(page) if "src/tts_provider/\n" in block.text)
    for page in ("README.md", "docs/architecture.md")
)


def test_no_page_is_forgotten():
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in (".", "docs", "examples", "training")
        for path in (REPOSITORY / folder).glob("*.md")
    }
    assert found - {"CHANGELOG.md"} == set(PAGES)


def test_the_tree_is_the_package():
    """Every module is in the architecture's tree, by its name or its folder's, and nothing else."""
    named = names_of(TREE)
    last = {path for path in named if not any(path in other.parents for other in named)}
    for module in modules():
        assert module in named or any(folder in module.parents for folder in last), module


def test_readme_names_every_room():
    named = names_of(ROOMS)
    assert len(ROOMS.splitlines()) <= 30
    for folder in {module.parent for module in modules()} - {PurePosixPath()}:
        assert any(folder == room or room in folder.parents for room in named), folder
    for line in ROOMS.splitlines():
        if not line.startswith(" "):
            for name in names_in(line):
                assert (REPOSITORY / name).exists(), name


def modules() -> set[PurePosixPath]:
    return {
        PurePosixPath(path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def names_of(tree: str) -> set[PurePosixPath]:
    """What a tree names within the package, each of which is there."""
    named, folders = set(), {0: PurePosixPath()}
    inside = False
    for line in tree.splitlines():
        depth, words = (len(line) - len(line.lstrip())) // 2, names_in(line)
        if depth == 0:
            inside = line.startswith("src/tts_provider/")
            continue
        for name in words if inside else ():
            path = folders[depth - 1] / name
            assert (PACKAGE / path).exists(), path
            if name.endswith("/"):
                folders[depth] = path
            named.add(path)
    return named


def names_in(line: str) -> list[str]:
    """Before the two spaces that what is said of them comes after."""
    return line.strip().split("  ")[0].split()


def test_commands_within_sentences_exist(tmp_path):
    texts = [read(page) for page in (*PAGES, "CHANGELOG.md")]
    commands = {
        tuple(words.split()[1:])
        for text in texts
        for words in re.findall(r"`((?:tts-provider|run_server\.py) [^`]*)`", text)
    }
    helps = {}
    for words in commands:
        command = words[0] if words and words[0].isalpha() and words[0].islower() else "serve"
        if command not in helps:
            reply = run_cli(tmp_path, command, "--help")
            assert reply.returncode == 0, words
            helps[command] = reply.stdout
        for flag in (word for word in words if word.startswith("--")):
            assert flag in helps[command], f"{flag} of {words}"


def test_settings_exist():
    known = {f"TTS_PROVIDER_{name.upper()}" for name in Settings.model_fields}
    texts = [read(page) for page in (*PAGES, ".env.template", "Containerfile")]
    texts += [path.read_text("utf-8") for path in (REPOSITORY / "deploy").iterdir()]
    for text in texts:
        assert set(re.findall(r"\bTTS_PROVIDER_[A-Z_]+\b", text)) - {"TTS_PROVIDER_"} <= known
    template = set(re.findall(r"(?m)^(TTS_PROVIDER_\w+)=", read(".env.template")))
    assert template == {name for name in known if "_HF_" not in name}


async def test_metrics_exist(tmp_path):
    named = set(re.findall(r"`(tts_\w+?)(?:\{([\w,]+)\})?`", read("docs/deploy.md")))
    async with (
        running_replica() as replica,
        running_server(RemoteEngine([replica.url])) as server,
        httpx2.AsyncClient() as client,
    ):
        url = f"http://127.0.0.1:{server.port}"
        await client.post(f"{url}/v1/audio/speech", json={"input": "Hello."})
        await client.post(f"{url}/v1/audio/speech", json={"input": ""})
        metrics = (await client.get(f"{url}/metrics")).text
        with KeyStore(tmp_path) as store:
            client.headers["Authorization"] = f"Bearer {store.add('ann')}"
            scrape = {"Authorization": f"Bearer {store.add('scrape', frozenset({'metrics'}))}"}
        async with running_server(data_dir=tmp_path, metrics_by_key=True) as keyed:
            url = f"http://127.0.0.1:{keyed.port}"
            await client.post(f"{url}/v1/audio/speech", json={"input": "Hello."})
            metrics += (await client.get(f"{url}/metrics", headers=scrape)).text
        engine = UnloadingEngine(EspeakEngine(), lambda _: EspeakEngine(), 600, ModelMetrics())
        async with running_server(engine) as unloading:
            url = f"http://127.0.0.1:{unloading.port}"
            metrics += (await client.get(f"{url}/metrics")).text
    assert len(named) > 5
    for name, labels in named:
        assert re.search(rf"(?m)^{name}(_bucket)?[ {{]", metrics), name
        for label in filter(None, labels.split(",")):
            assert re.search(rf"(?m)^{name}(_bucket)?{{.*\b{label}=", metrics), f"{name} {label}"


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "## Choose an engine"), ("docs/deploy.md", "## Sizing")]
)
def test_figures_are_measured(page, heading):
    """Whatever is claimed to be so fast or so large stands in the benchmarks."""
    section = read(page).partition(heading)[2].partition("\n## ")[0]
    figures = set(re.findall(r"\d+\.\d+|(?<![\d.])\d+(?= ms)", section))
    measured = set(re.findall(r"[\d.]+", read("docs/benchmarks.md")))
    assert len(figures) > 5
    assert figures <= measured


def test_make_targets_exist():
    targets = set(re.findall(r"(?m)^([a-z-]+):", read("Makefile")))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)", read(page))) <= targets, page

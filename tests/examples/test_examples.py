"""Every example, run as its first lines say."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import wave

import pytest

from docs.workspace import node
from servers import PATIENCE_S, REPOSITORY, clean_environment, running_server, server_process

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module", name="port")
def start_server(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("server"), "--engine", "espeak") as server:
        yield server.port


@pytest.fixture(name="run")
def make_run(tmp_path):
    def run(*command: str) -> str:
        reply = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (reply.returncode, reply.stderr) == (0, ""), reply.stderr
        return reply.stdout

    return run


def run_python(run, name: str, url: str) -> str:
    return run(sys.executable, "-W", "error", str(EXAMPLES / name), url)


def is_wav(data: bytes) -> bool:
    with wave.open(io.BytesIO(data)) as file:
        return file.getframerate() == 24_000 and file.getnframes() > 10_000


def test_python_sync(run, port, tmp_path):
    said = run_python(run, "python_sync.py", f"ws://127.0.0.1:{port}")
    assert "heard " in said
    assert "unknown_voice" in said
    assert is_wav((tmp_path / "hello.wav").read_bytes())
    assert (tmp_path / "hello.mp3").read_bytes().startswith(b"ID3")


def test_python_async(run, port, tmp_path):
    run_python(run, "python_async.py", f"ws://127.0.0.1:{port}")
    assert all((tmp_path / f"{n}.ogg").read_bytes().startswith(b"OggS") for n in range(3))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such player")
def test_agent(run, port, tmp_path):
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\nexec cat > /dev/null\n")
    player.chmod(0o755)
    agent = [sys.executable, "-W", "error", str(EXAMPLES / "agent.py"), f"ws://127.0.0.1:{port}"]
    lines = run("env", f"PATH={tmp_path}:/usr/bin:/bin", *agent).splitlines()
    assert lines[1] == lines[5] == "Fine, thank you."
    assert lines[3].endswith(" … interrupted")
    assert "And so on" not in lines[3]


def test_openai_sdk(run, port, tmp_path):
    run_python(run, "openai_sdk.py", f"http://127.0.0.1:{port}/v1")
    assert (tmp_path / "hello.mp3").read_bytes().startswith(b"ID3")


@pytest.mark.skipif(shutil.which("curl") is None, reason="install curl")
def test_curl(run, port, tmp_path):
    assert '"voices"' in run("sh", str(EXAMPLES / "curl.sh"), f"http://127.0.0.1:{port}")
    assert (tmp_path / "hello.mp3").read_bytes().startswith(b"ID3")
    assert (tmp_path / "hello.flac").read_bytes().startswith(b"fLaC")


def test_node(port, tmp_path):
    command = node()
    if command is None:
        pytest.skip("install Node 20 or later")
    subprocess.run(
        [*command, str(EXAMPLES / "node.mjs"), f"ws://127.0.0.1:{port}"],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert is_wav((tmp_path / "hello.wav").read_bytes())


async def test_browser():
    playwright = pytest.importorskip("playwright.async_api", reason="install requirements-test.txt")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip("install the package chromium, or set CHROMIUM to its path")
    page_url = "http://localhost:8000/browser.html"
    async with running_server(allow_origins="http://localhost:8000") as server:
        async with playwright.async_playwright() as driver:
            browser = await driver.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--mute-audio"]
            )
            page = await browser.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.route(
                lambda url: url.startswith(page_url),
                lambda route: route.fulfill(path=EXAMPLES / "browser.html"),
            )
            await page.goto(f"{page_url}?url=ws://127.0.0.1:{server.port}")
            await page.click("#speak")
            await page.wait_for_function("document.body.textContent.includes('spoken:')")
            await browser.close()
    assert problems == []


def test_each_is_run():
    names = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {name.rpartition(".")[0] for name in names} <= tests

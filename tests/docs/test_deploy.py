"""The files under deploy/, as the programs that read them understand them; where those are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from docs.markdown import blocks
from servers import (
    PATIENCE_S,
    REPOSITORY,
    ask,
    clean_environment,
    receive,
    running_server,
)

DEPLOY = REPOSITORY / "deploy"


def needs(program: str):
    found = shutil.which(program) is not None
    return pytest.mark.skipif(not found, reason=f"install {program}")


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as listener:
        return listener.getsockname()[1]


@contextlib.asynccontextmanager
async def running(*command: str, port: int):
    """A proxy, from the moment its port is open."""
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            assert process.returncode is None, (await process.stderr.read()).decode()
            await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE_S)


async def speak_through(port: int) -> None:
    """A WebSocket's stream, one of HTTP's, and a page's origin, all through the proxy."""
    options = {"host": "127.0.0.1", "port": port, "compression": None, "max_size": None}
    async with connect(
        "ws://tts.example.com/", origin="http://tts.example.com", **options
    ) as connection:
        reply = await ask(connection, text="Hello there.", stream=True)
        while isinstance(reply, bytes) or reply["status"] == "streaming":
            reply = await receive(connection)
        assert reply["status"] == "success"
    body = json.dumps({"input": "Hello there.", "response_format": "pcm"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\nHost: tts.example.com\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(answer) > 20_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: tts.example.com\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))


@needs("nginx")
async def test_nginx_passes_everything_on(tmp_path):
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    port = free_port()
    text = re.sub(r"listen 443 ssl;", f"listen 127.0.0.1:{port};", text)
    text = re.sub(r"(?m)^ *ssl_certificate.*\n", "", text)
    async with running_server() as first, running_server() as second:
        text = text.replace(":8765", f":{first.port}").replace(":8766", f":{second.port}")
        for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            text = f"{'client_body' if name == 'body' else name}_temp_path {tmp_path}/{name};{text}"
        path = tmp_path / "nginx.conf"
        path.write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr;"
            f"events {{}} http {{ access_log off; {text} }}"
        )
        async with running("nginx", "-c", str(path), "-p", str(tmp_path), port=port):
            await speak_through(port)


@needs("caddy")
async def test_caddy_passes_everything_on(tmp_path):
    text = (DEPLOY / "Caddyfile").read_text("utf-8")
    port = free_port()
    text = text.replace("tts.example.com {", f"http://tts.example.com:{port} {{")
    async with running_server() as first, running_server() as second:
        text = text.replace(":8765", f":{first.port}").replace(":8766", f":{second.port}")
        path = tmp_path / "Caddyfile"
        path.write_text("{\n\tadmin off\n}\n" + text)
        command = ("caddy", "run", "--adapter", "caddyfile", "--config", str(path))
        async with running(*command, port=port):
            await speak_through(port)


def test_a_gateway_and_two_replicas_follow_the_page(tmp_path):
    """Three machines, played by three addresses of this one."""
    steps = [
        block
        for block in blocks("docs/deploy.md")
        if "test_deploy.py follows it" in (block.not_run or "")
    ]
    assert len(steps) == 4
    places = set(re.findall(r"\b10\.0\.0\.\d:\d+", "".join(block.text for block in steps)))
    ports = {
        place: str(free_port(place.partition(":")[0].replace("10.", "127.", 1))) for place in places
    }
    environment = clean_environment(tmp_path)
    with contextlib.ExitStack() as machines:
        for block in steps:
            text = block.text.replace("tts-provider ", f"{sys.executable} -m tts_provider ")
            text = text.replace("curl ", "curl --fail --silent --show-error ")
            text = re.sub(
                r"10\.0\.0\.\d:\d+", lambda m: f"{m[0].partition(':')[0]}:{ports[m[0]]}", text
            )
            host = re.search(r"--host (\S+)", text)
            if host is None:
                command = ["bash", "-euo", "pipefail", "-c", text.replace("10.0.0.", "127.0.0.")]
                subprocess.run(
                    command, cwd=tmp_path, env=environment, check=True, timeout=PATIENCE_S
                )
                continue
            if "--port" not in text:
                text = text.rstrip() + " --port 8765"
            port = re.search(r"--port (\d+)", text)[1]
            text = text.replace(f"--port {port}", f"--port {ports[f'{host[1]}:{port}']}")
            machine = subprocess.Popen(
                ["bash", "-c", f"exec {text.replace('10.0.0.', '127.0.0.')}"],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            machines.callback(machine.stderr.close)
            machines.callback(machine.wait, PATIENCE_S)
            machines.callback(machine.terminate)
            assert any("ready: " in line for line in machine.stderr), text
    assert (tmp_path / "hello.wav").read_bytes().startswith(b"RIFF")


@needs("systemd-analyze")
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "tts-provider.service"
    text = (DEPLOY / "tts-provider.service").read_text("utf-8")
    unit.write_text(text.replace("/opt/tts-provider/bin/tts-provider", shutil.which("true")))
    reply = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tts-provider.service" not in reply.stderr, reply.stderr


def test_the_container_has_what_it_copies():
    lines = Path(REPOSITORY, "Containerfile").read_text("utf-8").splitlines()
    ignored = Path(REPOSITORY, ".dockerignore").read_text("utf-8").splitlines()
    stages = [line.split(" AS ")[1] for line in lines if line.startswith("FROM ")]
    assert {"cpu", "cuda"} <= set(stages)
    assert stages[-1] == "cpu", "the last stage is what is built when none is named"
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (REPOSITORY / name).exists()
                assert f"!{name}" in ignored

"""Full-size random weights of CSM-1B, written where you say: what nobody can download, measured.

    python benchmarks/full_size.py FOLDER            write the checkpoint (bfloat16, 3.4 GB)
    python benchmarks/full_size.py FOLDER --speak    and start the real server on it and speak
    python benchmarks/full_size.py FOLDER --company  and let two listen while others are served
    python benchmarks/full_size.py FOLDER --unload   and let it unload between requests (Linux)

The checkpoint has the published dimensions in the transformers layout, codec and a byte-level
tokenizer included. What it says is noise; how fast it says it is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import torch
from safetensors.torch import load_file, save_file
from transformers import CsmConfig, MimiModel
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "tests"))
from engines.csm.checkpoints import BACKBONE_ROPE, DEPTH_ROPE, write_tokenizer
from tts_provider.engines.csm.config import read_config
from tts_provider.engines.csm.files.checkpoint import expected_shapes

TEXT = "Hello there, how are you today?"
LONG_TEXT = "We walked along the river until the sun went down, and then we sat by the old bridge."
RECORDED = (
    "The train to the coast leaves very early in the morning, so we had better pack our bags "
    "tonight. I shall wake you at five, and we can have breakfast at the station."
)
FRAME_S, FRAME_BYTES = 0.08, 3840


def full_size_config() -> CsmConfig:
    return CsmConfig(
        rope_parameters=BACKBONE_ROPE, depth_decoder_config={"rope_parameters": DEPTH_ROPE}
    )


def write_checkpoint(folder: Path) -> None:
    """Random weights at the scale of trained ones: activations stay of order one."""
    if (folder / "model.safetensors").is_file():
        print(f"{folder} has a checkpoint already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = full_size_config()
    config.architectures = ["CsmForConditionalGeneration"]
    config.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in expected_shapes(read_config(folder / "config.json")).items():
        if len(shape) == 1:
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
            continue
        fan_in = shape[-2] if "codebooks_head" in name else shape[-1]
        scale = 0.02 if "embed" in name else fan_in**-0.5
        tensors[name] = (torch.randn(shape) * scale).to(torch.bfloat16)
    codec = MimiModel(config.codec_config).eval()
    # In memory transformers has other names for some of the codec's tensors than it publishes.
    codec.save_pretrained(folder / "codec")
    for name, tensor in load_file(folder / "codec" / "model.safetensors").items():
        value = torch.randn_like(tensor) if name.endswith("embed_sum") else tensor
        tensors[f"codec_model.{name}"] = value.to(torch.float32).contiguous()
    shutil.rmtree(folder / "codec")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    print(f"wrote {(folder / 'model.safetensors').stat().st_size / 1e9:.1f} GB to {folder}")


async def speak(port: str) -> None:
    async with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        sent = time.monotonic()
        request = {"text": TEXT, "stream": True, "max_audio_length_ms": 4000, "seed": 1}
        await socket.send(json.dumps(request))
        first, audio_bytes = None, 0
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                first = first or time.monotonic()
                audio_bytes += len(message)
                continue
            status = json.loads(message)
            if status["status"] not in ("loading", "streaming"):
                break
        print(status)
        assert first is not None
        audio_s = audio_bytes / 48_000
        took_s = time.monotonic() - sent
        ttfa_ms = 1000 * (first - sent)
        print(f"TTFA {ttfa_ms:.0f} ms, {audio_s:.1f} s of audio, RTF {took_s / audio_s:.2f}")


async def listen(port: str, audio_ms: int, seed: int) -> tuple[list[float], float]:
    """By how much each frame of a stream came later than its turn, in seconds, for a listener who
    plays what is there from the first frame on, and waits where nothing is; and the real-time
    factor."""
    async with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        request = {"text": LONG_TEXT, "stream": True, "max_audio_length_ms": audio_ms, "seed": seed}
        await socket.send(json.dumps(request))
        arrived, late = [], []
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                arrived += [time.monotonic()] * round(len(message) / FRAME_BYTES)
            elif json.loads(message)["status"] not in ("loading", "streaming"):
                break
    turn = arrived[0]
    for at in arrived:
        late.append(max(0.0, at - turn))
        turn = max(turn, at) + FRAME_S
    return late, (arrived[-1] - arrived[0]) / (len(arrived) * FRAME_S)


async def keep_encoding(base: str) -> int:
    """New voices all the time: enrolled, and asked to say a word; how many there were."""
    count = 0
    async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
        said = {"model": "tts-1", "input": RECORDED, "voice": "female", "response_format": "wav"}
        recording = (await client.post("/v1/audio/speech", json=said)).raise_for_status().content
        while True:
            facts = {"name": f"voice {count}", "consent": "true", "transcript": RECORDED}
            files = {"audio": ("voice.wav", recording)}
            answer = await client.post("/v1/audio/voices", data=facts, files=files)
            voice = answer.raise_for_status().json()["id"]
            word = {"model": "tts-1", "input": "Yes.", "voice": voice, "response_format": "pcm"}
            (await client.post("/v1/audio/speech", json=word)).raise_for_status()
            count += 1


async def keep_reading(base: str) -> int:
    """Texts of 20 000 characters are read all the time."""
    text = (LONG_TEXT + " It costs $3.50 on 3/4/2025 at 5:30 p.m. ") * 100
    async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
        while True:
            asked = {"input": text[:20_000]}
            (await client.post("/v1/audio/words", json=asked)).raise_for_status()


async def two_listen(port: str, *others: Callable[[str], Awaitable[int]]) -> str:
    """A row of the table: what two listeners hear while `others` are served."""
    beside = [asyncio.ensure_future(other(f"http://127.0.0.1:{port}")) for other in others]
    heard = await asyncio.gather(*(listen(port, 16_000, seed) for seed in (1, 2)))
    for task in beside:
        task.cancel()
    for result in await asyncio.gather(*beside, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError):
            raise SystemExit(f"what was to be beside the listeners ended: {result!r}")
    late = [frame for frames, _ in heard for frame in frames]
    share = sum(frame > 0.001 for frame in late) / len(late)
    speed = sum(factor for _, factor in heard) / len(heard)
    return f"RTF {speed:.2f}, {share:.1%} of {len(late)} frames late, {sum(late):.2f} s of silence"


def run_company(folder: Path, precision: str) -> None:
    data = folder / "company-data"
    shutil.rmtree(data, ignore_errors=True)
    server, port = start_server(folder, data, precision)
    try:
        for _ in range(2):
            for name, others in (
                ("nobody", ()),
                ("voices are encoded", (keep_encoding,)),
                ("texts are read", (keep_reading,)),
                ("both", (keep_encoding, keep_reading)),
            ):
                print(f"{precision}, {name}: {asyncio.run(two_listen(port, *others))}", flush=True)
    finally:
        server.terminate()
        server.communicate()
    shutil.rmtree(data)


def start_server(
    folder: Path, data: Path, precision: str, *flags: str
) -> tuple[subprocess.Popen[str], str]:
    """The server, ready, and its port."""
    command = [
        *(sys.executable, str(ROOT / "run_server.py"), "--host", "127.0.0.1", "--port", "0"),
        *("--mode", "reuse", "--model-path", str(folder), "--data-dir", str(data)),
        *("--precision", precision, *flags),
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    listening = re.search(r"ws://.*:(\d+)", wait_for_log(server, "listening on"))
    assert listening is not None
    wait_for_log(server, "ready: ")
    return server, listening[1]


def wait_for_log(server: subprocess.Popen[str], text: str) -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if text in line:
            return line
    raise SystemExit(f"the server ended before it said {text!r}")


def memory_gb(server: subprocess.Popen[str], kind: str) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(rf"{kind}:\s+(\d+)", status)[1]) / 1e6  # type: ignore[index]


def run_server(folder: Path, precision: str) -> None:
    data = folder / "speak-data"
    shutil.rmtree(data, ignore_errors=True)
    for start in ("cold", "from cache"):
        began = time.monotonic()
        server, port = start_server(folder, data, precision)
        print(f"{precision}: ready after {time.monotonic() - began:.1f} s ({start})")
        asyncio.run(speak(port))
        print(f"peak memory {memory_gb(server, 'VmHWM'):.2f} GB, mapped files included")
        server.terminate()
        server.communicate()
    shutil.rmtree(data)


def run_unloading(folder: Path, precision: str) -> None:
    """What the server gives back, and what the next request waits for."""
    data = folder / "unload-data"
    server, port = start_server(folder, data, precision, "--unload-after", "3")

    def tell(when: str) -> None:
        kinds = {"VmRSS": "resident", "RssAnon": "of its own", "RssFile": "of mapped files"}
        sizes = (f"{memory_gb(server, kind):.2f} GB {name}" for kind, name in kinds.items())
        print(f"{precision}, {when}: {', '.join(sizes)}")

    for _ in range(3):
        asyncio.run(speak(port))  # which loads, but for the first
        asyncio.run(speak(port))
        tell("loaded")
        wait_for_log(server, "is unloaded")
        tell("unloaded")
    server.terminate()
    print(f"exit code {server.wait()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speak", action="store_true")
    parser.add_argument("--company", action="store_true")
    parser.add_argument("--unload", action="store_true")
    parser.add_argument("--precision", nargs="*", default=["int8", "int4"])
    arguments = parser.parse_args()
    write_checkpoint(arguments.folder)
    if arguments.speak:
        for precision in arguments.precision:
            run_server(arguments.folder, precision)
    if arguments.company:
        for precision in arguments.precision:
            run_company(arguments.folder, precision)
    if arguments.unload:
        for precision in arguments.precision:
            run_unloading(arguments.folder, precision)


if __name__ == "__main__":
    main()

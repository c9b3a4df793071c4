"""CSM-1B on a GPU: ours against transformers, same full-size random weights, alternating, one run.

    python benchmarks/csm_cuda_peers.py [--json FILE] [--minutes 10]
    python benchmarks/csm_cuda_peers.py --smoke  every line of it on cpu with a tiny model

It needs this repository, torch with CUDA and transformers, no download. In order: our greedy codes
against transformers' in float32; then in bfloat16 the time of a frame and its parts, batch by
batch, transformers eager and with a static cache and compilation beside it; the share of the
floor, which is the bytes a frame must read over the bandwidth measured here; time to first audio
through the loop; and how many paced listeners the real engine serves without an underrun. What no
time is left for is listed as skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CsmForConditionalGeneration

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "benchmarks"))
from engines.csm.checkpoints import small_csm, write_tokenizer
from engines.csm.small_codec import mimi_config_of, mimi_weights_of
from full_size import full_size_config
from tts_provider.engines.csm.config import CsmConfig, read_config
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import Checkpoint
from tts_provider.engines.csm.loop import Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.torch.backend import TorchBackend
from tts_provider.engines.csm.torch.device import why_no_cuda
from tts_provider.speech.engine import Manner, Utterance

IDS = [128000, *range(40, 70), 128001]
VOICE_IDS = [128000, *([50] * 150), 128001]  # as long as a voice prompt of 10 s
SPECIALS = 3


class Bench:
    def __init__(self, *, smoke: bool, minutes: float) -> None:
        self.smoke, self.device = smoke, "cpu" if smoke else "cuda"
        self.deadline = time.monotonic() + 60 * minutes
        self.batches = [1, 2] if smoke else [1, 8, 16, 32, 64, 128, 256]
        self.rounds, self.frames = (1, 2) if smoke else (5, 20)
        self.report: dict[str, Any] = {"skipped": []}

    def has_time_for(self, what: str, seconds: float) -> bool:
        if time.monotonic() + seconds < self.deadline:
            return True
        self.report["skipped"].append(what)
        print(f"skipped, no time left: {what}")
        return False

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time_ms(self, work: Callable[[], object]) -> float:
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return 1000 * (time.perf_counter() - began)


def make_model(bench: Bench) -> tuple[Any, CsmConfig]:
    """Random weights at the scale of trained ones, made on the device."""
    if bench.smoke:
        model = small_csm()
    else:
        with torch.device(bench.device):
            model = CsmForConditionalGeneration(full_size_config()).eval()
        generator = torch.Generator(bench.device).manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("codec_model.") or parameter.dim() == 1:
                    continue
                fan_in = parameter.shape[-2 if "codebooks_head" in name else -1]
                scale = 0.02 if "embed" in name else fan_in**-0.5
                parameter.normal_(0, scale, generator=generator)
            # transformers may say the special codes, we never do: keep them from being the best.
            model.lm_head.weight[-SPECIALS:] = 0
            model.depth_decoder.codebooks_head.weight[:, :, -SPECIALS:] = 0
            for name, buffer in model.codec_model.named_buffers():
                if name.endswith("embed_sum"):
                    buffer.normal_(generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return model, read_config(Path(folder) / "config.json")


def make_backend(model: Any, config: CsmConfig, precision: str, slots: int) -> TorchBackend:
    state = model.state_dict()
    return TorchBackend(
        config,
        lambda name: state[name].detach(),
        mimi_weights_of(model.codec_model.float()),
        mimi_config_of(model.codec_model),
        device=model.device.type,
        precision=precision,
        slots=slots,
        on_progress=print,
    )


def generate(model: Any, batch: int, frames: int, **options: Any) -> torch.Tensor:
    ids = torch.tensor([IDS] * batch, device=model.device)
    with torch.no_grad():
        codes: torch.Tensor = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=frames,
            do_sample=False,
            depth_decoder_do_sample=False,
            **options,
        )
    return codes


# Parity


def check_codes(bench: Bench, model: Any, config: CsmConfig) -> None:
    backend = make_backend(model, config, "float32", slots=2)
    frames = 5 if bench.smoke else 20
    expected = generate(model, 1, frames)[0].cpu().numpy()
    slot, sampler = backend.acquire(), Sampler(0, temperature=0)
    backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    said = np.array([backend.step([slot], [sampler])[0] for _ in range(frames)])
    backend.close()
    same = said[: len(expected)] == expected
    bench.report["parity"] = {
        "frames": len(expected),
        "equal_frames": int(same.all(1).sum()),
        "equal": bool(same.all()),
    }
    print("greedy codes against transformers, float32:", bench.report["parity"])


# Frames


def bandwidth(bench: Bench) -> float:
    """Bytes a second of a long copy, read and written."""
    size = 2**20 if bench.smoke else 2**30
    source = torch.ones(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    times = [bench.time_ms(lambda: target.copy_(source)) for _ in range(10)]
    return 2 * size / (min(times) / 1000)


def frame_bytes(config: CsmConfig, batch: int, length: int, item: int) -> int:
    """What a frame cannot but read: every layer once, the depth decoder's 31 times, and the KV."""

    def layers(part: Any) -> int:
        attention = 2 * part.heads + 2 * part.kv_heads
        return part.layers * part.width * (attention * part.head_size + 3 * part.mlp_width)

    books, codes = config.codebooks, config.audio_vocabulary
    heads = codes * (config.backbone.width + (books - 1) * config.depth.width)
    kv = 2 * config.backbone.layers * config.backbone.kv_heads * config.backbone.head_size
    weights = layers(config.backbone) + (books - 1) * layers(config.depth) + heads
    return item * (weights + batch * length * kv)


def time_ours(bench: Bench, backend: TorchBackend, batch: int) -> dict[str, float]:
    """Medians in ms: the parts alone, and a whole frame as the loop asks for it."""
    slots = [backend.acquire() for _ in range(batch)]
    samplers = [Sampler(number) for number in range(batch)]
    for slot in slots:
        backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    codes = backend.step(slots, samplers)
    programs = backend._programs
    rows, span = min(b for b in programs.buckets if b >= batch), programs.spans[0]
    parts: dict[str, list[float]] = {"speak": [], "read": [], "codec": [], "frame": []}

    def whole() -> None:
        backend.decode(slots, backend.step(slots, samplers)[:, None])

    for _ in range(bench.frames):
        with torch.no_grad(), programs.language.active():
            parts["speak"].append(bench.time_ms(programs.speak_graphs[rows, False, False]))
            parts["read"].append(bench.time_ms(programs.read_graphs[rows, span, False, False]))
        parts["codec"].append(bench.time_ms(lambda: backend.decode(slots, codes[:, None])))
        parts["frame"].append(bench.time_ms(whole))
    for slot in slots:
        backend.release(slot)
    return {name: float(np.median(times)) for name, times in parts.items()}


def time_transformers(bench: Bench, model: Any, batch: int, **options: Any) -> float:
    """ms of a frame without the codec: a long `generate` less a short one, the prompt cancels."""
    more = 2 if bench.smoke else 4
    generate(model, batch, 1 + more, **options)
    short = bench.time_ms(lambda: generate(model, batch, 1, **options))
    return (bench.time_ms(lambda: generate(model, batch, 1 + more, **options)) - short) / more


def measure_frames(bench: Bench, model: Any, backend: TorchBackend, config: CsmConfig) -> None:
    speed = bandwidth(bench)
    bench.report["bandwidth_gb_s"] = speed / 1e9
    item = torch.finfo(getattr(torch, backend.precision)).bits // 8
    rows = bench.report["frames"] = []
    for batch in bench.batches:
        if not bench.has_time_for(f"frames of {batch} streams", 30):
            continue
        ours, eager = [], []
        for _ in range(bench.rounds):
            ours.append(time_ours(bench, backend, batch))
            if len(eager) < 2:
                eager.append(time_transformers(bench, model, batch))
        row: dict[str, Any] = {name: float(np.median([o[name] for o in ours])) for name in ours[0]}
        row |= {"batch": batch, "eager": float(np.median(eager)), "compiled": None}
        floor = 1000 * frame_bytes(config, batch, len(IDS) + bench.frames, item) / speed
        row["of_floor"] = floor / (row["speak"] + row["read"])
        rows.append(row)
    # Compiling takes minutes a shape: after everything that does not.
    for row in rows:
        batch = row["batch"]
        if batch not in (1, 16):
            bench.report["skipped"].append(f"compiled, {batch} streams")
        elif bench.has_time_for(f"compiled, {batch} streams", 0 if bench.smoke else 150):
            options = {"cache_implementation": "static"}
            options["depth_decoder_cache_implementation"] = "static"
            try:
                row["compiled"] = time_transformers(bench, model, batch, **options)
            except RuntimeError as error:  # the peer's trouble, not the run's
                bench.report["skipped"].append(f"compiled, {batch} streams: {error}")


def print_frames(bench: Bench) -> None:
    heads = ("batch", "speak", "read", "codec", "frame", "eager", "compiled", "of_floor")
    print(" ".join(f"{head:>9}" for head in heads), "     RTF audio s/s   (ms per 80 ms frame)")
    for row in bench.report["frames"]:
        cells = ["-" if row[head] is None else f"{row[head]:.3g}" for head in heads]
        rtf = row["frame"] / 80
        line = " ".join(f"{cell:>9}" for cell in cells)
        print(f"{line} {rtf:8.3f} {row['batch'] / rtf:9.1f}")


# First audio


def first_audio_ms(loop: Loop, seed: int, *, key: str | None) -> float:
    arrived: queue.SimpleQueue[Decoded | Finished] = queue.SimpleQueue()
    prompt = text_prompt([*VOICE_IDS, *IDS], 32)
    began = time.perf_counter()
    loop.submit(Job(prompt, 4, Sampler(seed), arrived.put, key, len(VOICE_IDS)))
    arrived.get()
    took = 1000 * (time.perf_counter() - began)
    while isinstance(arrived.get(), Decoded):
        pass
    return took


def arrivals_ms(loop: Loop, rate: float, seconds: float) -> list[float]:
    """First audio of requests that come `rate` a second, however long the others take."""
    prompt, waiting = text_prompt([*VOICE_IDS, *IDS], 32), []
    start = time.perf_counter()
    for number in range(max(1, int(rate * seconds))):
        due = start + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        times: list[float] = []
        over = threading.Event()

        def publish(
            item: Decoded | Finished, times: list[float] = times, over: threading.Event = over
        ) -> None:
            times.append(time.perf_counter())
            if isinstance(item, Finished):
                over.set()

        loop.submit(Job(prompt, 30, Sampler(number), publish, "voice", len(VOICE_IDS)))
        waiting.append((due, times, over))
    for _, _, over in waiting:
        over.wait()
    return [1000 * (times[0] - due) for due, times, _ in waiting]


def measure_first_audio(bench: Bench, backend: TorchBackend) -> None:
    loop, count = Loop(backend, 20.0), 2 if bench.smoke else 40
    first_audio_ms(loop, 0, key="voice")
    seconds = 0.2 if bench.smoke else 10.0
    ways: dict[str, Callable[[], list[float]]] = {
        "fresh prompt": lambda: [first_audio_ms(loop, n, key=None) for n in range(count)],
        "cached prompt": lambda: [first_audio_ms(loop, n, key="voice") for n in range(count)],
        "cached, 1 a second": lambda: arrivals_ms(loop, 1, seconds),
        "cached, 20 a second": lambda: arrivals_ms(loop, 20, seconds),
    }
    found = bench.report["first_audio_ms"] = {}
    for name, measure in ways.items():
        if bench.has_time_for(f"first audio, {name}", 2 * seconds):
            times = measure()
            found[name] = {f"p{share}": float(np.percentile(times, share)) for share in (50, 95)}
            print(f"ms to first audio, {name}: {found[name]}")
    loop.close()


# Paced listeners


async def listen(engine: CsmEngine, number: int, seconds: float) -> tuple[float, int]:
    """Hear one utterance as it is made, in real time: ms to its first audio, and underruns."""
    utterance = Utterance(
        "listen " * 40,
        engine.voices()[number % 2],
        Manner(seed=number, max_audio_ms=int(1000 * seconds)),
    )
    began, runs_dry, first, underruns = time.monotonic(), 0.0, 0.0, 0
    async for chunk in engine.speak(utterance):
        now = time.monotonic()
        if not first:
            first, runs_dry = now - began, now
        elif now > runs_dry:
            underruns, runs_dry = underruns + 1, now
        runs_dry += len(chunk.samples) / engine.sample_rate
        # A listener takes no more than it plays, but for a little.
        await asyncio.sleep(max(0.0, runs_dry - time.monotonic() - 0.5))
    return 1000 * first, underruns


async def measure_listeners(bench: Bench, backend: TorchBackend, config: CsmConfig) -> None:
    seconds = 0.4 if bench.smoke else 12.0
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        write_tokenizer(tokenizer)
        engine = CsmEngine(
            Checkpoint(config, {}, {}),
            tokenizer,
            lambda report: backend,
            device=backend.device,
            codec="benchmark",
            precision=backend.precision,
            max_ahead_s=2.0,
        )
        await engine.load(print)
    rows = bench.report["listeners"] = []
    for count in [n for n in bench.batches if n <= backend.slots]:
        if not bench.has_time_for(f"{count} listeners", 2 * seconds + 2):
            continue
        # They come one by one over a second or so, as callers do.
        tasks = []
        for number in range(count):
            tasks.append(asyncio.create_task(listen(engine, number, seconds)))
            await asyncio.sleep(1.0 / count)
        heard = await asyncio.gather(*tasks)
        first = [ms for ms, _ in heard]
        row = {"listeners": count, "underruns": sum(missed for _, missed in heard)}
        row |= {f"first_p{share}_ms": float(np.percentile(first, share)) for share in (50, 95)}
        rows.append(row)
        print(row)
    await engine.close()
    most = [row["listeners"] for row in rows if not row["underruns"]]
    bench.report["most_listeners_without_underrun"] = max(most, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--smoke", action="store_true", help="tiny model on cpu: no measurement")
    arguments = parser.parse_args()
    if arguments.smoke:
        print("cpu smoke run, not a measurement")
    elif reason := why_no_cuda():
        sys.exit(f"no CUDA: {reason}")
    bench = Bench(smoke=arguments.smoke, minutes=arguments.minutes)
    name = platform.machine() if arguments.smoke else torch.cuda.get_device_name()
    bench.report |= {"smoke": arguments.smoke, "device": name, "python": platform.python_version()}
    bench.report |= {"torch": torch.__version__, "transformers": transformers.__version__}
    print({key: value for key, value in bench.report.items() if key != "skipped"})

    model, config = make_model(bench)
    check_codes(bench, model, config)
    # The comparison may hold on to nothing of the float32 backend's memory.
    if not arguments.smoke:
        model.to(torch.bfloat16)
        torch.cuda.empty_cache()
    precision = "float32" if arguments.smoke else "bfloat16"
    backend = make_backend(model, config, precision, slots=max(bench.batches))
    if not arguments.smoke:
        model.codec_model.to(torch.bfloat16)
    measure_frames(bench, model, backend, config)
    print_frames(bench)
    measure_first_audio(bench, backend)
    asyncio.run(measure_listeners(bench, backend, config))
    print(
        "most paced listeners without an underrun:", bench.report["most_listeners_without_underrun"]
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""CSM's kernels on a CPU that is not their own: a frame beside other work, against one alone.

    python benchmarks/csm_company.py [--rounds N] [--json FILE]     about two minutes

Random weights of the real size, int4, one stream, 300 positions behind it. All settings take turns
in one run, so that what else the machine does is the same for all; ratios of medians count. A frame
is what the server computes between two chunks of sound: the backbone, and the depth decoder with
its sampling, in as many calls as the server makes. The codec is none of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm.config import CSM_1B, CsmConfig
from tts_provider.engines.csm.cpu.language import Frame
from tts_provider.engines.csm.cpu.policy import POLICIES, Precision
from tts_provider.engines.csm.cpu.quantize import Blocks, packed_shapes
from tts_provider.engines.csm.cpu.stepwise import AUDIO_TABLE, DEPTH_TABLE
from tts_provider.engines.csm.native.language import NativeLanguage
from tts_provider.engines.csm.native.library import open_kernels
from tts_provider.engines.csm.sampling import Sampler

FRAMES, PAST, CHOICES = 6, 300, 2048
BUSY = "while True: pass"


def random_weights(config: CsmConfig, precision: Precision) -> dict[str, np.ndarray]:
    """As `load_weights` gives them. Scales keep activations of order one."""
    random, policy, weights = np.random.default_rng(0), POLICIES[precision], {}

    def linear(name: str, rows: int, width: int, blocks: Blocks | None) -> None:
        assert blocks is not None
        fitting = blocks.fit(width)
        codes, scales = packed_shapes(rows, width, fitting)
        weights[f"{name}.codes"] = np.frombuffer(random.bytes(int(np.prod(codes))), np.uint8)
        weights[f"{name}.codes"] = weights[f"{name}.codes"].reshape(codes)
        deviation = 2**fitting.bits / 12**0.5
        weights[f"{name}.scales"] = np.full(scales, width**-0.5 / deviation, np.float32)

    for prefix, part, mix in (
        ("backbone_model", config.backbone, policy.backbone),
        ("depth_decoder.model", config.depth, policy.depth),
    ):
        heads, kv = part.heads * part.head_size, part.kv_heads * part.head_size
        weights[f"{prefix}.norm"] = np.ones(part.width, np.float32)
        for number in range(part.layers):
            layer = f"{prefix}.layers.{number}"
            for norm in ("input_layernorm", "post_attention_layernorm"):
                weights[f"{layer}.{norm}"] = np.ones(part.width, np.float32)
            qk, v, o, gate_up, down = (
                mix.blocks(kind, number, part.layers)  # type: ignore[arg-type]
                for kind in ("qk", "v", "o", "gate_up", "down")
            )
            if v == qk:
                linear(f"{layer}.qkv", heads + 2 * kv, part.width, qk)
            else:
                linear(f"{layer}.qk", heads + kv, part.width, qk)
                linear(f"{layer}.v", kv, part.width, v)
            linear(f"{layer}.o", part.width, heads, o)
            linear(f"{layer}.gate_up", 2 * part.mlp_width, part.width, gate_up)
            linear(f"{layer}.down", part.width, part.mlp_width, down)
    linear("projection", config.depth.width, config.backbone.width, policy.head)
    for book in range(config.codebooks):
        width = (config.depth if book else config.backbone).width
        linear(f"head.{book}", config.audio_vocabulary, width, policy.head)
    rows = config.audio_vocabulary * config.codebooks
    for name, width in ((AUDIO_TABLE, config.backbone.width), (DEPTH_TABLE, config.depth.width)):
        some = random.standard_normal((64, width)).astype(ml_dtypes.bfloat16)
        weights[name] = np.tile(some, (-(-rows // 64), 1))[:rows]
    return weights


class Speaker:
    """A language model that says one frame after the other."""

    def __init__(self, weights: dict[str, np.ndarray], threads: int, streams: int = 1) -> None:
        self.language = NativeLanguage(
            open_kernels(), CSM_1B, weights, slots=streams, threads=threads
        )
        self._streams, self._samplers = streams, [Sampler(n) for n in range(streams)]
        x = np.random.default_rng(1).standard_normal((streams, PAST, CSM_1B.backbone.width))
        self._logits, self._projected = self.language.read(
            x.astype(np.float32), 0, np.zeros(streams, np.int32)
        )
        self._codes = self._frame([None] * streams)

    def speak(self) -> float:
        """Seconds of a frame. It is read at the same position again and again."""
        began = time.perf_counter()
        self._codes = self._frame(list(self._codes))
        return time.perf_counter() - began

    def _frame(self, read: list[np.ndarray | None]) -> np.ndarray:
        return self.language.frame(
            Frame(
                rows=list(range(self._streams)),
                lengths=np.full(self._streams, PAST, np.int32),
                read=read,
                logits=self._logits,
                projected=self._projected,
                samplers=self._samplers,
                choices=CHOICES,
            )
        )


@contextlib.contextmanager
def busy_loop() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """The calling thread; the pools' threads have been there since they were made."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def reading_thread() -> Iterator[None]:
    """What a server does beside: a text is read, over and over."""
    from tts_provider.speech.reading import Reader

    text = "Dr. Smith paid $3.50 on 1/2/2024, at 5 p.m., for 12 kg of apples; see page 7. " * 8
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for _ in Reader().read(text):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        time.sleep(0.1)
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def beside(other: Speaker) -> Iterator[None]:
    """Another engine, in this process, that speaks all the time."""
    stop = threading.Event()

    def speak() -> None:
        while not stop.is_set():
            other.speak()

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    weights = random_weights(CSM_1B, "int4")
    two, other, eight = Speaker(weights, 2), Speaker(weights, 2), Speaker(weights, 8)
    with on_one_core():
        one_there, two_there = Speaker(weights, 1), Speaker(weights, 2)
    nothing = contextlib.nullcontext
    settings = {
        "nothing": (two, nothing, "nothing"),
        "a busy loop": (two, busy_loop, "nothing"),
        "one core, one thread": (one_there, on_one_core, "one core, one thread"),
        "one core, two threads": (two_there, on_one_core, "one core, one thread"),
        "nothing, eight threads": (eight, nothing, "nothing"),
        "a thread that reads text": (two, reading_thread, "nothing"),
        "another engine": (two, lambda: beside(other), "nothing"),
    }
    taken: dict[str, list[float]] = {name: [] for name in settings}
    for number in range(arguments.rounds):
        for name, (speaker, company, _) in settings.items():
            with company():
                speaker.speak()
                taken[name] += [speaker.speak() for _ in range(FRAMES)]
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    print(f"{available_cpus()} CPUs, two threads where no other number is named")
    report = {}
    for name, (_, _, against) in settings.items():
        median = float(np.median(taken[name]))
        base = float(np.median(taken[against]))
        p95 = float(np.percentile(taken[name], 95))
        report[name] = {"ms": 1000 * median, "ratio": median / base, "p95 ratio": p95 / base}
        print(
            f"{name:26} {1000 * median:7.1f} ms  {median / base:5.2f} ×, p95 {p95 / base:5.2f} ×  "
            f"of: {against}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

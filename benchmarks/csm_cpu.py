"""CSM-1B on a CPU: ours against transformers, on the same full-size random weights, alternating.

    python benchmarks/csm_cpu.py FOLDER [--json FILE]     FOLDER as written by full_size.py

Medians of a frame's time, split into backbone, depth and codec; 1, 2, 4 and 8 streams; the cosine
of the logits against float32. transformers runs `generate` in float32 on the same threads; its
codec's share is its whole-sequence decode. Ratios count; absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CsmForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tts_provider.csm.checkpoint import find_codec, open_checkpoint, read_all
from tts_provider.csm.onnx.backend import OnnxBackend
from tts_provider.csm.onnx.weights import load_weights
from tts_provider.csm.prompt import text_prompt
from tts_provider.csm.sampling import Sampler
from tts_provider.selection import available_cpus

IDS = [128000, *range(40, 70), 128001]
ROUNDS = 3
FRAMES = 6


def build(folder: Path, precision: str) -> OnnxBackend:
    checkpoint = open_checkpoint(folder)
    cache = folder / "data" / "weights"
    weights = load_weights(checkpoint, precision, cache, print)  # type: ignore[arg-type]
    config, codec = find_codec(checkpoint, None)
    return OnnxBackend(
        checkpoint.config,
        weights,
        read_all(codec),
        config,
        precision=precision,
        slots=8,
        threads=available_cpus(),
    )


def time_streams(backend: OnnxBackend, streams: int) -> dict[str, float]:
    """Median ms of a frame of all streams: backbone, depth with sampling, codec."""
    slots = [backend.acquire() for _ in range(streams)]
    samplers = [Sampler(number) for number in range(streams)]
    for slot in slots:
        backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    parts: dict[str, list[float]] = {"backbone": [], "depth": [], "codec": []}
    for _ in range(FRAMES + 1):
        began = time.perf_counter()
        backend._read_frames([slot for slot in slots if slot in backend._next])
        read = time.perf_counter()
        codes = backend._run_depth(slots, samplers)
        for slot, frame in zip(slots, codes, strict=True):
            backend._next[slot] = frame
        spoken = time.perf_counter()
        backend.decode(slots, codes[:, None])
        ended = time.perf_counter()
        parts["backbone"].append(read - began)
        parts["depth"].append(spoken - read)
        parts["codec"].append(ended - spoken)
    for slot in slots:
        backend.release(slot)
    row = {name: 1000 * float(np.median(times[1:])) for name, times in parts.items()}
    return {**row, "all": sum(row.values())}


def time_transformers(model: Any) -> dict[str, float]:
    """ms of a frame: a long `generate` less a short one, so that the prompt cancels."""

    def generate(frames: int) -> tuple[float, Any]:
        began = time.perf_counter()
        with torch.no_grad():
            codes = model.generate(input_ids=torch.tensor([IDS]), max_new_tokens=frames)
        return time.perf_counter() - began, codes

    short, _ = generate(1)
    long, codes = generate(1 + 3)
    began = time.perf_counter()
    with torch.no_grad():
        model.codec_model.decode(codes.clamp(max=2047).transpose(1, 2))
    codec = (time.perf_counter() - began) / codes.shape[1]
    language = (long - short) / 3
    return {"language": 1000 * language, "codec": 1000 * codec, "all": 1000 * (language + codec)}


def cosine(backend: OnnxBackend, reference: np.ndarray) -> float:
    slot = backend.acquire()
    backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    ours = backend._logits[slot].copy()
    backend.release(slot)
    return float(ours @ reference / np.linalg.norm(ours) / np.linalg.norm(reference))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(available_cpus())
    model = CsmForConditionalGeneration.from_pretrained(arguments.folder, dtype=torch.float32)
    model.eval()
    with torch.no_grad():
        reference = model(input_ids=torch.tensor([IDS])).logits[0, -1].numpy()
    backends = {name: build(arguments.folder, name) for name in ("int4", "int8")}
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        rows.setdefault("transformers float32, 1 stream", []).append(time_transformers(model))
        for name, backend in backends.items():
            for streams in (1, 2, 4, 8):
                key = f"ours {name}, {streams} streams"
                rows.setdefault(key, []).append(time_streams(backend, streams))
    medians = {
        key: {part: float(np.median([row[part] for row in found])) for part in found[0]}
        for key, found in rows.items()
    }
    theirs = medians["transformers float32, 1 stream"]["all"]
    heads = f"{'backbone':>9} {'depth':>8} {'codec':>8} {'all':>8}"
    print(f"{'ms per 80 ms frame':34} {heads}  audio vs theirs")
    for key, parts in medians.items():
        streams = int(key.split(", ")[1].split()[0])
        first = parts.get("backbone", parts.get("language", 0.0))
        depth, gain = parts.get("depth", float("nan")), streams * theirs / parts["all"]
        print(
            f"{key:34} {first:9.1f} {depth:8.1f} {parts['codec']:8.1f} {parts['all']:8.1f} "
            f"{gain:6.2f} x"
        )
    cosines = {name: cosine(backend, reference) for name, backend in backends.items()}
    print("cosine of the first logits with float32:", cosines)
    if arguments.json:
        facts = {"machine": platform.machine(), "threads": available_cpus()}
        facts |= {name: version(name) for name in ("onnxruntime", "torch", "transformers")}
        report = {**facts, "medians": medians, "cosines": cosines}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""CSM-1B on a CPU: ours against transformers, on the same full-size random weights, alternating.

    python benchmarks/csm_cpu.py FOLDER [--json FILE]     FOLDER as written by full_size.py

Medians of a frame's time, split into backbone, depth and codec; 1, 2, 4 and 8 streams; the cosines
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

from tts_provider.config import available_cpus
from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint, read_all
from tts_provider.engines.csm.onnx.backend import OnnxBackend
from tts_provider.engines.csm.onnx.weights import load_weights
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler

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


def read_reference(model: Any) -> tuple[np.ndarray, ...]:
    """transformers' float32 logits: code 0 after the prompt, (codes,); the depth decoder's for the
    greedy frame, (31, codes); its first input, (depth width,); and that frame, (32,)."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([IDS]), output_hidden_states=True)
        hidden = output.hidden_states[-1][:, -1]
        codes = model.generate(input_ids=torch.tensor([IDS]), max_new_tokens=1, do_sample=False)
        frame = codes[0, 0]  # [32]
        depth = model.depth_decoder(
            input_ids=torch.cat([torch.zeros(1, dtype=torch.long), frame[:31]])[None],
            backbone_last_hidden_state=hidden,
        )
        projected = model.depth_decoder.model.inputs_embeds_projector(hidden)[0]
    values = (output.logits[0, -1], depth.logits[0], projected, frame)
    return tuple(value.numpy() for value in values)


def cosines(backend: OnnxBackend, reference: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Of the backbone's logits; of the depth decoder's, the mean of its 31, fed the reference's
    state and codes; and the same behind our backbone."""
    first, others, projected, frame = reference
    slot = backend.acquire()
    backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    found = {"backbone": _cosine(backend._logits[slot], first)}
    found["depth"] = _depth_cosine(backend, projected, frame, others)
    found["both"] = _depth_cosine(backend, backend._projected[slot], frame, others)
    backend.release(slot)
    return found


def _depth_cosine(
    backend: OnnxBackend, projected: np.ndarray, frame: np.ndarray, expected: np.ndarray
) -> float:
    table, found = backend._depth_table, []
    x = np.stack([projected, table[frame[0]].astype(np.float32)])[None]
    for book in range(1, backend.codebooks):
        length = np.array([0 if book == 1 else book], np.int32)
        hidden = backend._depth.run(x, 0, length)["hidden"]
        (logits,) = backend._heads[book - 1].run(None, {"hidden": hidden})
        found.append(_cosine(logits[0], expected[book - 1]))
        x = table[frame[book] + backend._vocabulary * book].astype(np.float32)[None, None]
    return float(np.mean(found))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(available_cpus())
    model = CsmForConditionalGeneration.from_pretrained(arguments.folder, dtype=torch.float32)
    model.eval()
    reference = read_reference(model)
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
    near = {name: cosines(backend, reference) for name, backend in backends.items()}
    for name, values in near.items():
        print(
            f"{name}: cosine of logits with float32:", {k: round(v, 5) for k, v in values.items()}
        )
    if arguments.json:
        facts = {"machine": platform.machine(), "threads": available_cpus()}
        facts |= {name: version(name) for name in ("onnxruntime", "torch", "transformers")}
        report = {**facts, "medians": medians, "cosines": near}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""CSM-1B on a CPU: our kernels, the same weights on ONNX Runtime, and transformers, alternating.

    python benchmarks/csm_cpu.py FOLDER [--peers NAME …] [--json FILE]     FOLDER from full_size.py
    python benchmarks/csm_cpu.py FOLDER --adapters [RANK]

Full-size random weights. A frame's time, split into language model and codec; 1, 2, 4 and 8
streams; bytes of weights a frame, and the rate at which the model read them against the rate at
which numpy reads memory, which a large cache or asking ahead can beat; the cosines of the logits
against float32. transformers runs `generate` on the same threads; its codec's share
is its whole-sequence decode. With `--peers` each of those named alternates with ours, int4, one
stream; ggml's language model is its matrix products alone (csm_ggml.py), and it has no codec. With
`--adapters` one and eight streams with an adapter each, of random numbers, alternate with as many
that have none, int4 and int8, in CPU time of one thread: what else the machine does counts little.
Ratios count; absolute times are this machine's. A round in which the memory's bandwidth changed by
more than a fifth is said to be unsteady and made again, a bounded number of times.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import CsmForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from bandwidth import Probe
from csm_ggml import GgmlFrame, Library, Missing, products
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm.adapters.low_rank import Factors, LowRank
from tts_provider.engines.csm.config import CsmConfig
from tts_provider.engines.csm.cpu.backend import CpuBackend
from tts_provider.engines.csm.cpu.choice import load_language
from tts_provider.engines.csm.cpu.language import Language
from tts_provider.engines.csm.cpu.policy import Precision
from tts_provider.engines.csm.cpu.stepwise import DEPTH_TABLE
from tts_provider.engines.csm.cpu.weights import load_weights
from tts_provider.engines.csm.files.checkpoint import (
    expected_shapes,
    find_codec,
    open_checkpoint,
    read_all,
)
from tts_provider.engines.csm.onnx.language import bytes_a_frame
from tts_provider.engines.csm.onnx.sessions import OnnxLanguage
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler

IDS = [128000, *range(40, 70), 128001]
PRECISIONS: tuple[Precision, ...] = ("int4", "int8")
STREAMS = (1, 2, 4, 8)
SLOTS = max(STREAMS)
ROUNDS = 3
MOST_ROUNDS = 5
STEADY = 1.2
FRAMES = 8
CHUNK = 4  # frames that the codec decodes at once, as the loop does from the fourth frame on


Row = dict[str, float]
Report = dict[str, Row] | None


class Built(NamedTuple):
    backend: CpuBackend
    depth_table: np.ndarray
    bytes_read: dict[str, int]
    """Of weights, by a frame."""


def build(
    folder: Path,
    precision: Precision,
    *,
    on_onnx_runtime: bool = False,
    threads: int | None = None,
) -> Built:
    """The backend as the server has it, or with its language model on ONNX Runtime."""
    checkpoint, threads = open_checkpoint(folder), threads or available_cpus()
    weights = load_weights(checkpoint, precision, folder / "data" / "weights", print)
    language: Language
    if on_onnx_runtime:
        language = OnnxLanguage(checkpoint.config, weights, slots=SLOTS, threads=threads)
    else:
        language = load_language(checkpoint.config, weights, precision, SLOTS, threads, print)
    config, codec = find_codec(checkpoint, None)
    backend = CpuBackend(
        checkpoint.config,
        weights,
        language,
        read_all(codec),
        config,
        precision=precision,
        slots=SLOTS,
        threads=threads,
    )
    return Built(backend, weights[DEPTH_TABLE], bytes_a_frame(checkpoint.config, weights))


# What a user of transformers can have today. Each takes the model in float32 or bfloat16.


def as_it_is(model: Any) -> None:
    pass


def compiled(model: Any) -> None:
    """The parts that read weights; whole forwards compile anew for every length of the cache."""
    torch._dynamo.config.recompile_limit = 64  # every shape of layer and of input is one
    for transformer in (model.backbone_model, model.depth_decoder.model):
        for layer in transformer.layers:
            layer.mlp.compile()
            for name in "qkvo":
                getattr(layer.self_attn, f"{name}_proj").compile()


def torchao_int8(model: Any) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    _quantize(model, Int8WeightOnlyConfig())
    compiled(model)  # without it every product unpacks its weights first


def torchao_int4(model: Any) -> None:
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    _quantize(model, PrototypeInt4WeightOnlyConfig(group_size=128))


def _quantize(model: Any, config: Any) -> None:
    from torchao.quantization import quantize_

    for transformer in (model.backbone_model, model.depth_decoder.model):
        quantize_(transformer.layers, config)


PEERS: dict[str, tuple[torch.dtype, Callable[[Any], None]]] = {
    "bfloat16": (torch.bfloat16, as_it_is),
    "compile": (torch.bfloat16, compiled),
    "torchao-int8": (torch.bfloat16, torchao_int8),
    "torchao-int4": (torch.bfloat16, torchao_int4),
}
GGML = "ggml"


def load_transformers(folder: Path, dtype: torch.dtype) -> Any:
    return CsmForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def random_adapter(config: CsmConfig, rank: int, seed: int) -> LowRank:
    """Of all seven matrices of every layer, a tenth of their size."""
    random, factors = np.random.default_rng(seed), {}
    for name, (outputs, inputs) in (
        (name, shape) for name, shape in expected_shapes(config).items() if "_proj." in name
    ):
        prefix, number, matrix = re.fullmatch(
            r"(.+)\.layers\.(\d+)\..+\.(\w+)_proj\.weight", name
        ).groups()  # type: ignore[union-attr]
        a = random.standard_normal((rank, inputs), np.float32) * (inputs * rank) ** -0.5
        b = random.standard_normal((outputs, rank), np.float32) * 0.1
        factors[prefix, int(number), matrix] = Factors(a, b)
    return LowRank(factors)  # type: ignore[arg-type]


def time_streams(
    backend: CpuBackend,
    streams: int,
    adapters: Sequence[Any] = (),
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Mean ms of a frame of all streams: the language model with its sampling, codec by the chunk.
    Means, because what comes after the codec may wait for threads that it leaves spinning."""
    mine = adapters or [None] * streams
    slots = [backend.acquire(adapter) for adapter in mine[:streams]]
    samplers = [Sampler(number) for number in range(streams)]
    for slot in slots:
        backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    parts: dict[str, list[float]] = {"language": [], "codec": []}
    frames: list[np.ndarray] = []
    for _ in range(CHUNK + FRAMES):  # a chunk to get warm
        began = now()
        codes = backend.step(slots, samplers)
        spoken = now()
        parts["language"].append(spoken - began)
        frames.append(codes)
        if len(frames) == CHUNK:
            backend.decode(slots, np.stack(frames, axis=1))
            parts["codec"] += [(now() - spoken) / CHUNK] * CHUNK
            frames.clear()
    for slot in slots:
        backend.release(slot)
    row = {name: 1000 * float(np.mean(times[-FRAMES:])) for name, times in parts.items()}
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


def against_ggml(config: CsmConfig, probe: Probe, one: dict[str, Callable[[], Row]]) -> Report:
    """None where there is no ggml, which is said."""
    try:
        frame = GgmlFrame(Library(), products(config), available_cpus())
    except Missing as lack:
        print(f"{GGML} is skipped: {lack}")
        return None
    frame.compute()

    def time_products() -> Row:
        times = []
        for _ in range(FRAMES):
            began = time.perf_counter()
            frame.compute()
            times.append(1000 * (time.perf_counter() - began))
        mean = float(np.mean(times))
        return {"language": mean, "codec": 0.0, "all": mean}

    return alternate(probe, {f"products in {GGML}, 1 stream": time_products, **one})


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


def cosines(
    backend: CpuBackend, table: np.ndarray, reference: tuple[np.ndarray, ...]
) -> dict[str, float]:
    """Of the backbone's logits; of the depth decoder's, the mean of its 31, fed the reference's
    state and codes; and the same behind our backbone."""
    first, others, projected, frame = reference
    slot = backend.acquire()
    backend.prefill(slot, text_prompt(IDS, backend.codebooks))
    found = {"backbone": _cosine(backend._logits[slot], first)}
    found["depth"] = _depth_cosine(backend, table, projected, frame, others)
    found["both"] = _depth_cosine(backend, table, backend._projected[slot], frame, others)
    backend.release(slot)
    return found


def _depth_cosine(
    backend: CpuBackend,
    table: np.ndarray,
    projected: np.ndarray,
    frame: np.ndarray,
    expected: np.ndarray,
) -> float:
    found = []
    x = np.stack([projected, table[frame[0]].astype(np.float32)])[None]
    for book in range(1, backend.codebooks):
        found.append(_cosine(backend._language.speak(x, book)[0], expected[book - 1]))
        x = table[frame[book] + backend._vocabulary * book].astype(np.float32)[None, None]
    return float(np.mean(found))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def alternate(probe: Probe, timers: dict[str, Callable[[], Row]]) -> dict[str, Row]:
    """Medians over rounds in which everybody has a turn; the rounds in which the memory was steady,
    or all of them where none was. Each row has the bandwidth of its rounds, `memory`, GB/s."""
    rounds: list[tuple[bool, dict[str, Row]]] = []
    while sum(steady for steady, _ in rounds) < ROUNDS and len(rounds) < MOST_ROUNDS:
        before = probe.gb_per_s()
        rows = {name: timer() for name, timer in timers.items()}
        after = probe.gb_per_s()
        steady = max(before, after) <= STEADY * min(before, after)
        for row in rows.values():
            row["memory"] = (before + after) / 2
        rounds.append((steady, rows))
        print(
            f"round {len(rounds)}: memory {before:.1f} GB/s before, {after:.1f} after"
            f"{'' if steady else ': unsteady'}",
            flush=True,
        )
    kept = [rows for steady, rows in rounds if steady] or [rows for _, rows in rounds]
    print(f"{len(kept)} of {len(rounds)} rounds count")
    return {
        name: {
            part: float(np.median([rows[name][part] for rows in kept])) for part in kept[0][name]
        }
        for name in timers
    }


def print_rows(rows: dict[str, Row], against: str, bytes_read: dict[str, dict[str, int]]) -> None:
    heads = f"{'language':>9} {'codec':>8} {'all':>8}"
    print(f"{'ms per 80 ms frame':36} {heads}   audio  its reading against numpy's")
    for key, parts in rows.items():
        name, _, streams = key.partition(", ")
        gain = int((streams or "1").split()[0]) * rows[against]["all"] / parts["all"]
        line = (
            f"{key:36} {parts['language']:9.1f} {parts['codec']:8.1f} {parts['all']:8.1f} "
            f"{gain:6.2f} x"
        )
        if name in bytes_read:
            read = sum(bytes_read[name].values())
            line += f" {read / 1e6 / parts['language'] / parts['memory']:6.0%}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--peers", nargs="+", choices=[*PEERS, GGML], help="these instead of float32"
    )
    parser.add_argument("--adapters", nargs="?", type=int, const=32, metavar="RANK")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(available_cpus())
    probe, report = Probe(available_cpus()), {}
    if arguments.adapters:
        against_none(arguments.folder, arguments.adapters)
        return
    int4 = build(arguments.folder, "int4")
    bytes_read = {"ours int4": int4.bytes_read}
    one = {"ours int4, 1 stream": lambda: time_streams(int4.backend, 1)}
    for name in arguments.peers or ():
        if name == GGML:
            config = open_checkpoint(arguments.folder).config
            if (found := against_ggml(config, probe, one)) is not None:
                print_rows(found, next(iter(found)), bytes_read)
                report[name] = found
            continue
        dtype, change = PEERS[name]
        model = load_transformers(arguments.folder, dtype)
        change(model)
        time_transformers(model)  # compiles what there is to compile
        key = f"transformers {name}"
        rows = alternate(probe, {key: lambda m=model: time_transformers(m), **one})  # type: ignore
        print_rows(rows, key, bytes_read)
        report[name] = rows
        del model, rows
        gc.collect()
    if not arguments.peers:
        report = against_float32(arguments.folder, probe, int4, bytes_read)
    for name, read in bytes_read.items():
        parts = {part: f"{size / 1e9:.3f}" for part, size in read.items()}
        print(f"{name}: {sum(read.values()) / 1e9:.3f} GB a frame:", parts)
    if arguments.json:
        facts = {"machine": platform.machine(), "threads": available_cpus()}
        facts |= {name: version(name) for name in ("onnxruntime", "torch", "transformers")}
        arguments.json.write_text(json.dumps({**facts, "medians": report}, indent=2) + "\n")


def against_none(folder: Path, rank: int) -> None:
    """An adapter for each stream against none, and one adapter for all of them: CPU time of one
    thread, medians of rounds in turns."""
    config = open_checkpoint(folder).config
    for precision in PRECISIONS:
        backend = build(folder, precision, threads=1).backend
        began = time.process_time()
        adapters = [
            backend.load_adapter(random_adapter(config, rank, seed)) for seed in range(SLOTS)
        ]
        print(
            f"{precision}, rank {rank}: {adapters[0].size_bytes / 1e6:.1f} MB an adapter, "
            f"{(time.process_time() - began) / SLOTS:.2f} s to draw and pack one",
            flush=True,
        )
        turns: dict[tuple[str, int], list[Any]] = {
            ("none", 1): [],
            ("one each", 1): adapters,
            ("none", SLOTS): [],
            ("one each", SLOTS): adapters,
            ("one for all", SLOTS): adapters[:1] * SLOTS,
        }
        rounds: dict[tuple[str, int], list[Row]] = {turn: [] for turn in turns}
        for _ in range(ROUNDS):
            for (name, streams), mine in turns.items():
                row = time_streams(backend, streams, mine, time.process_time)
                rounds[name, streams].append(row)
        for (name, streams), rows in rounds.items():
            row = {part: float(np.median([row[part] for row in rows])) for part in rows[0]}
            ratios = [
                row["language"] / none["language"]
                for row, none in zip(rows, rounds["none", streams], strict=True)
            ]
            print(
                f"{precision}, {streams} streams, {name}: language model {row['language']:.1f}, "
                f"codec {row['codec']:.1f} ms; the model takes "
                f"{np.median(ratios):.3f} of none ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )
        backend.close()


def against_float32(
    folder: Path, probe: Probe, int4: Built, bytes_read: dict[str, dict[str, int]]
) -> dict[str, Row]:
    model = load_transformers(folder, torch.float32)
    reference = read_reference(model)
    backends, streams_of = {"ours int4": int4}, {"ours int4": STREAMS}
    backends["ours int8"] = build(folder, "int8")
    streams_of["ours int8"] = STREAMS
    for precision in PRECISIONS:
        name = f"ONNX Runtime {precision}"
        backends[name] = build(folder, precision, on_onnx_runtime=True)
        streams_of[name] = (STREAMS[0], STREAMS[-1])
    timers: dict[str, Callable[[], Row]] = {
        "transformers float32": lambda: time_transformers(model)
    }
    for name, (backend, _, bytes_read[name]) in backends.items():
        for streams in streams_of[name]:
            key = f"{name}, {streams} stream{'s' * (streams > 1)}"
            timers[key] = functools.partial(time_streams, backend, streams)
    rows = alternate(probe, timers)
    print_rows(rows, "transformers float32", bytes_read)
    for name, (backend, table, _) in backends.items():
        near = {part: round(value, 5) for part, value in cosines(backend, table, reference).items()}
        print(f"{name}: cosine of logits with float32:", near)
    return rows


if __name__ == "__main__":
    main()

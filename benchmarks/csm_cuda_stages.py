"""The stages of csm_cuda.py, each in a process of its own.

    python benchmarks/csm_cuda_stages.py STAGE REPORT.jsonl [--smoke]

What a stage finds is a line in the report as soon as it is known. It ends with 77 where this
machine lacks what it needs, and says what.
"""

from __future__ import annotations

import argparse
import platform
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.profiler import ProfilerActivity, profile

from csm_cuda import SKIPPED, Report
from random_csm import RandomWeights, configs, make_backend
from tts_provider.engines.csm.loop import FRAME_MS, Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler
from tts_provider.engines.csm.torch.backend import TorchBackend
from tts_provider.engines.csm.torch.graphs import Lane
from tts_provider.engines.csm.torch.mimi import _spread
from tts_provider.engines.csm.torch.sampling import NoiseDraws, noise
from tts_provider.engines.csm.torch.weights import load_language

IDS = list(range(40, 70))
VOICE = [50] * 150  # as long as a voice prompt of 10 s
WIDE = 2048


class Bench:
    def __init__(self, stage: str, report: Path, *, smoke: bool) -> None:
        self.stage, self.smoke, self._report = stage, smoke, Report(report)
        self.device = "cpu" if smoke else "cuda"
        self.batches = [1, 2] if smoke else [1, 8, 32, 64, 256]
        self.rounds = 2 if smoke else 30

    def found(self, **values: object) -> None:
        self._report.add(stage=self.stage, **values)

    def backend(self, slots: int, precision: str | None = None, **options: Any) -> TorchBackend:
        precision = precision or ("float32" if self.smoke else "bfloat16")
        began_s = time.perf_counter()
        backend = make_backend(
            toy=self.smoke, device=self.device, precision=precision, slots=slots, **options
        )
        self.found(ready_s=round(time.perf_counter() - began_s, 2), slots=backend.slots)
        return backend

    def synchronize(self) -> None:
        if not self.smoke:
            torch.cuda.synchronize()

    def median_ms(self, work: Callable[[], object], rounds: int | None = None) -> float:
        times = []
        for _ in range(rounds or self.rounds):
            self.synchronize()
            began_s = time.perf_counter()
            work()
            self.synchronize()
            times.append(1000 * (time.perf_counter() - began_s))
        return round(float(np.median(times)), 4)


class Missing(Exception):
    """What this machine lacks."""


def start(backend: TorchBackend, count: int, ids: list[int] = IDS) -> list[int]:
    slots = [backend.acquire() for _ in range(count)]
    for slot in slots:
        backend.prefill(slot, text_prompt(ids, backend.codebooks))
    return slots


def versions(bench: Bench) -> None:
    bench.found(python=platform.python_version(), torch=torch.__version__, cuda=torch.version.cuda)
    kinds = ("cudnn", "flash", "mem_efficient", "math")
    enabled = {kind: getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in kinds}
    bench.found(attention_enabled=enabled, cudnn=torch.backends.cudnn.version())
    if not bench.smoke:
        free, total = torch.cuda.mem_get_info()
        bench.found(
            device=torch.cuda.get_device_name(),
            capability=torch.cuda.get_device_capability(),
            free_bytes=free,
            total_bytes=total,
        )
        asking = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm", "--format=csv,noheader"]
        if shutil.which("nvidia-smi"):
            told = subprocess.run(asking, capture_output=True, text=True, check=False).stdout
            bench.found(driver=told.strip())
    # What attention is taken for a step's shapes, in and out of our lane.
    dtype = torch.float32 if bench.smoke else torch.bfloat16
    q = torch.zeros((2, 8, 4, 64), device=bench.device, dtype=dtype)
    kv = torch.zeros((2, 8, 256, 64), device=bench.device, dtype=dtype)
    mask = torch.zeros((2, 1, 4, 256), device=bench.device, dtype=dtype)

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, kv, kv, attn_mask=mask)

    lane = Lane(torch.device(bench.device), exact=False)
    for name, run in (("own", lambda: lane.run(attend)), ("default", attend)):
        bench.found(attention=name, kernels=dict(kernels(bench, run)))


def kernels(bench: Bench, work: Callable[[], object]) -> Counter[str]:
    """How often each kernel runs; on the CPU each operator."""
    work()
    bench.synchronize()
    kind = ProfilerActivity.CPU if bench.smoke else ProfilerActivity.CUDA
    with profile(activities=[kind]) as seen:
        work()
        bench.synchronize()
    return Counter({event.key[:120]: event.count for event in seen.key_averages()})


def micro(bench: Bench) -> None:
    bench.found(copy_gb_s=copy_gb_s(bench))
    small = torch.zeros(64, device=bench.device)

    def many() -> None:
        for _ in range(1000):
            small.add_(1)

    replay = Lane(torch.device(bench.device)).capture("a thousand small kernels", many)
    bench.found(graph_node_us=bench.median_ms(replay))
    for rows in bench.batches:
        keys = torch.zeros(rows, dtype=torch.int64, device=bench.device)
        logits = torch.randn((rows, WIDE), device=bench.device)
        bench.found(
            rows=rows,
            noise_ms=bench.median_ms(lambda keys=keys: noise(keys, keys, 32, WIDE)),
            top_64_ms=bench.median_ms(lambda logits=logits: logits.topk(64)),
            top_2048_ms=bench.median_ms(lambda logits=logits: logits.topk(WIDE)),
        )
    x = torch.randn((4, 512, 5), device=bench.device)
    weight = torch.randn((512, 1, 4), device=bench.device)
    grouped = bench.median_ms(lambda: F.conv_transpose1d(x, weight, stride=2, groups=512))
    bench.found(upsampling_grouped_ms=grouped)
    bench.found(upsampling_ms=bench.median_ms(lambda: _spread(x, weight[:, 0], None)))


def copy_gb_s(bench: Bench) -> float:
    """Of a long copy, read and written."""
    size = 2**20 if bench.smoke else 2**30
    source = torch.ones(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return round(2 * size / bench.median_ms(lambda: target.copy_(source)) / 1e6, 1)


def frames(bench: Bench) -> None:
    """The parts alone, and a whole frame as the loop asks for it."""
    backend = bench.backend(max(bench.batches))
    for batch in [count for count in bench.batches if count <= backend.slots]:
        slots, samplers = start(backend, batch), [Sampler(number) for number in range(batch)]
        codes = backend.step(slots, samplers)
        programs = backend._programs
        rows = next(b for b in programs.buckets if b >= batch)
        span = programs.spans[0]

        def whole(slots=slots, samplers=samplers) -> None:
            backend.decode(slots, backend.step(slots, samplers)[:, None])

        with torch.no_grad(), programs.language.active():
            speak = bench.median_ms(programs.speak_graphs[rows, False, False])
            read = bench.median_ms(programs.read_graphs[rows, span, False, False])
            in_place = bench.median_ms(programs.read_graphs[rows, span, True, False])
        sound = bench.median_ms(
            lambda slots=slots, codes=codes: backend.decode(slots, codes[:, None])
        )
        frame = bench.median_ms(whole)
        bench.found(
            batch=batch,
            speak_ms=speak,
            read_ms=read,
            read_in_place_ms=in_place,
            sound_ms=sound,
            frame_ms=frame,
            rtf=round(frame / FRAME_MS, 4),
            audio_s_per_s=round(batch * FRAME_MS / frame, 1),
        )
        for slot in slots:
            backend.release(slot)


def parity(bench: Bench) -> None:
    """In float32, the same codes forced on both: the GPU's states against a CPU's."""
    config, _ = configs(toy=bench.smoke)
    count, random = (3, np.random.default_rng(0)) if bench.smoke else (8, np.random.default_rng(0))
    codes_each = min(2048, config.audio_vocabulary - 3)
    codes = torch.from_numpy(random.integers(0, codes_each, (count, config.codebooks)))
    states, spoken = [], []
    for device in ("cpu", bench.device):
        target = torch.device(device)
        with torch.no_grad():
            backbone, depth = load_language(
                config,
                RandomWeights(config, device),
                codes=codes_each,
                slots=1,
                device=target,
                dtype=torch.float32,
            )
            zeros = torch.zeros(1, dtype=torch.int64, device=target)
            x = backbone.embed_frames(codes.to(target))[None]
            backbone.read(x, zeros, zeros, torch.full_like(zeros, count), 256)
            states.append(backbone.hidden[:1].cpu())
            draws = torch.zeros((1, config.codebooks, codes_each), device=target)
            only = torch.zeros((1, 1), device=target)
            inverses = torch.ones((1, 2), device=target)
            said, _ = depth.speak(states[0].to(target), NoiseDraws(draws, (only, only), inverses))
            spoken.append(said.cpu())
        del backbone, depth
    error = float((states[1] - states[0]).abs().max() / states[0].abs().max())
    same = int((spoken[0] == spoken[1]).sum())
    bench.found(hidden_relative_error=error, greedy_codes_equal=same, of=config.codebooks)
    if error > 1e-3:
        raise AssertionError(f"the states differ by {error:.1e} of the largest")


def memory(bench: Bench) -> None:
    if bench.smoke:
        bench.backend(2).encode(np.zeros(5000, np.float32))
        return
    before = torch.cuda.mem_get_info()[0]
    backend = bench.backend(256)
    after = torch.cuda.mem_get_info()[0]
    bench.found(taken_bytes=before - after, allocated_bytes=torch.cuda.memory_allocated())
    for seconds in (10, 30, 60):
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        backend.encode(np.zeros(seconds * 24_000, np.float32))
        bench.found(encoded_s=seconds, peak_bytes=torch.cuda.max_memory_allocated() - held)
    slots = start(backend, 1, IDS + VOICE)
    held = torch.cuda.memory_allocated()
    prefix = backend.save_prefix(slots[0])
    bench.found(prefix_bytes=torch.cuda.memory_allocated() - held, frames=prefix.frames)


def company(bench: Bench) -> None:
    """Whether a stream says alone what it says among others, batch by batch, and with the fixed
    batch, where it must."""
    for fixed in (False, True):
        backend = bench.backend(max(bench.batches[:4]), fixed_batch=fixed)
        alone = None
        for batch in [count for count in bench.batches if count <= backend.slots]:
            slots = start(backend, batch)
            samplers = [Sampler(number) for number in range(batch)]
            said = np.array([backend.step(slots, samplers)[0] for _ in range(10)])
            alone = said if alone is None else alone
            same = int((said == alone).all(1).sum())
            bench.found(fixed=fixed, batch=batch, frames_equal=same, of=len(said))
            for slot in slots:
                backend.release(slot)
            if fixed and same < len(said):
                raise AssertionError(f"with a fixed batch {batch} streams change what one says")


def nodes(bench: Bench) -> None:
    """What is in the graphs, by kernel."""
    backend = bench.backend(1, adapter_ranks=32)
    programs = backend._programs
    span = programs.spans[0]
    with torch.no_grad(), programs.language.active():
        for name, graph in (
            ("speak", programs.speak_graphs[1, False, False]),
            ("wide", programs.speak_graphs[1, True, False]),
            ("read", programs.read_graphs[1, span, False, False]),
            ("read in place", programs.read_graphs[1, span, True, False]),
            ("speak with adapters", programs.speak_graphs[1, False, True]),
            ("read with adapters", programs.read_graphs[1, span, False, True]),
            ("sound", programs.codec_graphs[1, 1]),
        ):
            counts = kernels(bench, graph)
            bench.found(
                graph=name, nodes=sum(counts.values()), kernels=dict(counts.most_common(25))
            )


def profiled(bench: Bench) -> None:
    for batch in bench.batches[:1] + bench.batches[3:4]:
        backend = bench.backend(batch)
        slots, samplers = start(backend, batch), [Sampler(number) for number in range(batch)]
        backend.step(slots, samplers)
        kind = ProfilerActivity.CPU if bench.smoke else ProfilerActivity.CUDA
        with profile(activities=[kind]) as seen:
            backend.decode(slots, backend.step(slots, samplers)[:, None])
            bench.synchronize()
        name = "cpu_time_total" if bench.smoke else "device_time_total"
        events = sorted(seen.key_averages(), key=lambda event: -getattr(event, name))
        for event in events[:20]:
            took = round(getattr(event, name), 1)
            bench.found(batch=batch, kernel=event.key[:120], times=event.count, us=took)


def first_audio(bench: Bench) -> None:
    backend = bench.backend(2 if bench.smoke else 32)
    loop = Loop(backend, 20.0)
    count, seconds = (2, 0.2) if bench.smoke else (20, 5.0)
    for key in (None, "voice"):
        times = [Heard(loop, number, 4, key=key).wait() for number in range(count)]
        bench.found(cached=key is not None, **shares([heard.first_ms for heard in times]))
    for rate in (1, 20):
        waiting, begin_s = [], time.perf_counter()
        for number in range(max(1, int(rate * seconds))):
            time.sleep(max(0.0, begin_s + number / rate - time.perf_counter()))
            waiting.append(Heard(loop, number, 30, key="voice"))
        bench.found(a_second=rate, **shares([heard.wait().first_ms for heard in waiting]))
    loop.close()


def shares(values: list[float]) -> dict[str, float]:
    return {f"p{share}_ms": round(float(np.percentile(values, share)), 2) for share in (50, 95)}


class Heard:
    """One listener, who takes what is made as it is played."""

    def __init__(
        self, loop: Loop, seed: int, frames: int, *, key: str | None = None, top_k: int = 50
    ) -> None:
        self._loop = loop
        self._arrived: queue.SimpleQueue[tuple[float, Decoded | Finished]] = queue.SimpleQueue()
        ids = [*VOICE, *IDS] if key is not None else IDS
        prompt = text_prompt(ids, loop._backend.codebooks)
        self.first_ms, self.underruns = 0.0, 0
        self._began_s = time.perf_counter()
        self._job = Job(prompt, frames, Sampler(seed, top_k=top_k), self._take, key, len(VOICE))
        loop.submit(self._job)

    def _take(self, item: Decoded | Finished) -> None:
        self._arrived.put((time.perf_counter(), item))

    def wait(self, *, paced: bool = False) -> Heard:
        dry_s = 0.0
        while True:
            at_s, item = self._arrived.get()
            if isinstance(item, Finished):
                if item.error is not None:
                    raise item.error
                return self
            if not self.first_ms:
                self.first_ms, dry_s = 1000 * (at_s - self._began_s), at_s
            elif at_s > dry_s:
                self.underruns, dry_s = self.underruns + 1, at_s
            dry_s += item.frames * FRAME_MS / 1000
            if paced:  # no more than half a second before it is played
                time.sleep(max(0.0, dry_s - time.perf_counter() - 0.5))
            self._loop.heard(self._job, item.frames)


def listeners(bench: Bench) -> None:
    """Paced in real time; then with long top-ks among them and a voice that is encoded beside."""
    backend = bench.backend(max(bench.batches))
    seconds = 0.4 if bench.smoke else 3.0
    frames_each = int(1000 * seconds / FRAME_MS)
    counts = bench.batches if bench.smoke else [8, 64, 256]
    for count in [n for n in counts if n <= backend.slots]:
        for beside in (False, True):
            loop, heard = Loop(backend, 2.0), []
            threads = []
            for number in range(count):
                is_wide = beside and number % 8 == 0
                each = Heard(loop, number, frames_each, top_k=WIDE if is_wide else 50)
                heard.append(each)
                threads.append(threading.Thread(target=each.wait, kwargs={"paced": True}))
                threads[-1].start()
                time.sleep(min(0.02, 1.0 / count))
            if beside:
                backend.encode(np.zeros(10 * 24_000, np.float32))
            for thread in threads:
                thread.join()
            loop.close()
            missed = sum(each.underruns for each in heard)
            first = shares([each.first_ms for each in heard])
            bench.found(listeners=count, wide_and_encoding=beside, underruns=missed, **first)


def tests(bench: Bench) -> None:
    """Those of the CUDA backend, on this machine."""
    try:
        import pytest  # noqa: F401
    except ModuleNotFoundError:
        raise Missing("pytest is not installed here") from None
    chosen = ["test_sampling.py"] if bench.smoke else ["test_sampling.py", "test_device.py"]
    folder = ROOT / "tests" / "engines" / "csm" / "torch"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly"]
    command += [str(folder / name) for name in chosen]
    if bench.smoke:
        command += ["-k", "compare_with"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "ModuleNotFoundError" in done.stdout + done.stderr:
        lines = (done.stdout + done.stderr).splitlines()
        raise Missing(next(line for line in lines if "ModuleNotFoundError" in line).strip())
    bench.found(pytest=done.stdout.strip().splitlines()[-1])
    if done.returncode:
        raise AssertionError(done.stdout[-1500:])


class SmallCard(TorchBackend):
    """As on a card with less memory."""

    limit_bytes = 0

    def _free_bytes(self) -> int | None:
        if self._device.type != "cuda":
            return self.limit_bytes
        free = super()._free_bytes()
        assert free is not None
        total = torch.cuda.mem_get_info()[1]
        return self.limit_bytes - (total - free)


def small_cards(bench: Bench) -> None:
    for gib in (24, 8):
        SmallCard.limit_bytes = gib * 2**30
        if not bench.smoke:
            total = torch.cuda.mem_get_info()[1]
            torch.cuda.set_per_process_memory_fraction(gib * 2**30 / total)
        slots = 2 if bench.smoke else 256
        backend = bench.backend(slots, kind=SmallCard)
        used = start(backend, backend.slots)
        samplers = [Sampler(number) for number in range(len(used))]
        codes = backend.step(used, samplers)
        backend.decode(used, np.repeat(codes[:, None], 4, axis=1))
        backend.encode(np.zeros(10 * 24_000, np.float32))
        bench.found(card_gib=gib, slots=backend.slots, spoke=len(codes))
        backend.close()


def peers(bench: Bench) -> None:
    """Transformers, in the same run and on the same weights."""
    script = [sys.executable, str(ROOT / "benchmarks" / "csm_cuda_peers.py"), "--minutes", "0.4"]
    out = Path(bench._report.path).with_name("peers.json")
    command = [*script, "--json", str(out), *(["--smoke"] if bench.smoke else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr:
        raise Missing(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise AssertionError(done.stderr[-1500:])
    bench.found(peers=out.read_text("utf-8"))


STAGES: dict[str, Callable[[Bench], None]] = {
    "versions": versions,
    "micro": micro,
    "frames": frames,
    "parity": parity,
    "memory": memory,
    "company": company,
    "nodes": nodes,
    "profile": profiled,
    "first_audio": first_audio,
    "listeners": listeners,
    "tests": tests,
    "small_cards": small_cards,
    "peers": peers,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("report", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        print("no CUDA here; --smoke runs on the CPU", file=sys.stderr)
        return SKIPPED
    try:
        STAGES[arguments.stage](Bench(arguments.stage, arguments.report, smoke=arguments.smoke))
    except Missing as lack:
        print(lack, file=sys.stderr)
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())

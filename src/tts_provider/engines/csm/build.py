"""Builds CSM-1B's engine from settings: finds its files, chooses its device, prepares its
backend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tts_provider.config import Settings
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.hub.cache import cache_name, hub_cache
from tts_provider.errors import StartupError
from tts_provider.speech.engine import Engine

if TYPE_CHECKING:
    from tts_provider.engines.csm.backend import Backend
    from tts_provider.engines.csm.config import MimiConfig
    from tts_provider.engines.csm.files.checkpoint import Checkpoint
    from tts_provider.engines.csm.files.tensors import Tensor
    from tts_provider.voices.store import VoiceStore

    BuildBackend = Callable[[Callable[[str], None]], Backend]

log = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "int8", "int4"]


def find_weights(settings: Settings) -> str | None:
    """Why the weights can be had, as far as that can be told without the network; None where
    nothing says so."""
    if settings.mode is not None:
        return f"--mode {settings.mode} asks for CSM-1B"
    if settings.model_path is not None:
        return f"--model-path {settings.model_path} asks for CSM-1B"
    if settings.model is not None:
        return f"--model {settings.model} asks for CSM-1B"
    if settings.adapter is not None:
        return f"--adapter {settings.adapter} asks for CSM-1B"
    if settings.hf_token is not None:
        return "HF_TOKEN is set, so CSM-1B can be downloaded"
    if snapshots := find_snapshots(settings):
        return f"{snapshots[-1]} holds CSM-1B"
    return None


def build(settings: Settings, on_progress: Callable[[str], None]) -> Engine:
    """Build the engine, with its files found or downloaded and checked, but not loaded yet.

    Raises `StartupError` if that is impossible.
    """
    device, precision = choose_device(settings)
    from tts_provider.engines.csm.engine import CsmEngine
    from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint
    from tts_provider.engines.csm.files.generation import read_sampling
    from tts_provider.engines.csm.files.locate import locate, name_of
    from tts_provider.engines.csm.files.tensors import files_key
    from tts_provider.voices.builtin import choose_prompts, read_prompts
    from tts_provider.voices.store import open_store

    files = locate(settings, on_progress, may_download=may_download(settings))
    checkpoint = open_checkpoint(files.folder, files.adapter)
    candidates, warnings = read_prompts(files.folder)
    prompts = choose_prompts(candidates, settings.speaker_prompts)
    for warning in (*warnings, *prompts.warnings):
        log.warning("%s", warning)
    codec = find_codec(checkpoint, files.mimi)
    if device == "cuda" and (reason := _why_too_small(checkpoint, *codec, precision)) is not None:
        device, precision = _fall_back(settings, reason)
    store = open_store(settings)
    if device == "cuda":
        adapted = None if files.adapter is not None else store
        build_backend, stop = _on_cuda(settings, precision, checkpoint, *codec, adapted), None
    else:
        build_backend, stop = _on_cpu(settings, precision, checkpoint, *codec)
    return CsmEngine(
        checkpoint,
        files.tokenizer,
        build_backend,
        device=device,
        precision=precision,
        model=name_of(files),
        stop_building=stop,
        sampling=read_sampling(files, settings),
        speakers=settings.speakers,
        language=settings.model_language,
        codec=files_key(codec[1]),
        prompts=prompts,
        store=store,
        takes_acts=settings.model_acts,
        limits=settings,
        has_adapter=files.adapter is not None,
    )


def choose_device(settings: Settings) -> tuple[Literal["cpu", "cuda"], Precision]:
    """What `auto` comes to, and whether what was asked for can be had.

    Raises `StartupError` where it cannot.
    """
    precision, reason = settings.precision, None
    quantized = precision in ("int8", "int4")
    if settings.device != "cpu" and not quantized:
        # PyTorch takes seconds to import: not where there is no GPU anyway.
        from tts_provider.engines.csm.torch.device import (
            best_precision,
            has_driver,
            why_no_bfloat16,
            why_no_cuda,
        )

        if settings.device == "cuda" or has_driver():
            reason = why_no_cuda()
            if reason is None and precision == "bfloat16" and (lack := why_no_bfloat16()):
                raise StartupError(lack)
            if reason is None:
                return "cuda", best_precision() if precision == "auto" else precision
    if settings.device == "cuda":
        if quantized:
            raise StartupError(
                f"--precision {precision} is for the CPU; CUDA has bfloat16, float32"
            )
        raise StartupError(f"--device cuda is not available: {reason}")
    if precision == "bfloat16":
        raise StartupError("--precision bfloat16 needs CUDA; a CPU has float32, int8 and int4")
    if reason is not None:
        log.warning("CSM-1B runs on the CPU although there is an NVIDIA driver: %s", reason)
    return "cpu", "int8" if precision == "auto" else precision


def _why_too_small(
    checkpoint: Checkpoint, mimi: MimiConfig, codec: Mapping[str, Tensor], precision: str
) -> str | None:
    from tts_provider.engines.csm.torch.device import why_too_small

    return why_too_small(checkpoint.config, mimi, codec, precision)


def _fall_back(settings: Settings, reason: str) -> tuple[Literal["cpu"], Precision]:
    """The CPU instead of a GPU that is too small. Raises `StartupError` where CUDA is asked for."""
    if settings.device == "cuda" or settings.precision == "bfloat16":
        raise StartupError(f"{reason}; close what else uses the GPU, or use --device cpu")
    log.warning("CSM-1B runs on the CPU: %s", reason)
    return "cpu", "int8" if settings.precision == "auto" else settings.precision


def _on_cpu(
    settings: Settings,
    precision: Precision,
    checkpoint: Checkpoint,
    codec_config: MimiConfig,
    codec: Mapping[str, Tensor],
) -> tuple[BuildBackend, Callable[[], None]]:
    """What makes the backend, and what ends it early."""
    from tts_provider.engines.csm.cpu.backend import CpuBackend
    from tts_provider.engines.csm.cpu.choice import load_language
    from tts_provider.engines.csm.cpu.prepared import PreparedFolder
    from tts_provider.engines.csm.cpu.weights import load_weights
    from tts_provider.engines.csm.files.checkpoint import read_all

    assert precision in ("float32", "int8", "int4")  # choose_device made sure
    folder = settings.check_data_dir() / "weights"
    prepared = PreparedFolder(folder, settings.max_prepared_weights)

    def build_backend(report: Callable[[str], None]) -> Backend:
        weights = load_weights(checkpoint, precision, prepared, report)
        slots, threads = settings.max_streams, _threads(settings)
        language = load_language(checkpoint.config, weights, precision, slots, threads, report)
        prepared.check_stop()
        report("building the graphs of the codec")
        return CpuBackend(
            checkpoint.config,
            weights,
            language,
            read_all(codec),
            codec_config,
            precision=precision,
            slots=slots,
            threads=threads,
        )

    return build_backend, prepared.stop


def _threads(settings: Settings) -> int:
    cpus = available_cpus()
    if settings.threads is not None and settings.threads > cpus:
        log.warning(
            "--threads %d is more than the %d CPUs that this process may use, and is not faster",
            settings.threads,
            cpus,
        )
    return settings.threads or cpus


def _on_cuda(
    settings: Settings,
    precision: Precision,
    checkpoint: Checkpoint,
    codec_config: MimiConfig,
    codec: Mapping[str, Tensor],
    adapted: VoiceStore | None,
) -> BuildBackend:
    """`adapted` has the voices whose adapters can speak here."""

    def build_backend(report: Callable[[str], None]) -> Backend:
        from tts_provider.engines.csm.adapters.kept import stored_ranks
        from tts_provider.engines.csm.files.checkpoint import read_all
        from tts_provider.engines.csm.torch.backend import TorchBackend
        from tts_provider.engines.csm.torch.weights import reader

        return TorchBackend(
            checkpoint.config,
            reader(checkpoint),
            read_all(codec),
            codec_config,
            device="cuda",
            precision=precision,
            slots=settings.max_streams,
            use_graphs=settings.cuda_graphs,
            fixed_batch=settings.cuda_fixed_batch,
            use_kernels=settings.cuda_kernels,
            adapter_ranks=0 if adapted is None else stored_ranks(adapted, settings),
            most_adapter_bytes=settings.max_adapters_memory_bytes,
            on_progress=report,
        )

    return build_backend


def may_download(settings: Settings) -> bool:
    """Whether the files may come from the network: not those of a folder of the user's."""
    if settings.mode is not None:
        return settings.mode == "download"
    return settings.model_path is None


def find_snapshots(settings: Settings) -> list[Path]:
    """CSM-1B's snapshots in the Hugging Face cache; none where it is somebody else's."""
    folder = hub_cache(settings) / cache_name(CSM_REPOSITORY) / "snapshots"
    try:
        return sorted(path for path in folder.glob("*") if path.is_dir())
    except PermissionError:
        log.warning("cannot read %s, so nothing in it is used; set HF_HOME to another", folder)
        return []

from __future__ import annotations

import pytest


@pytest.fixture(scope="package")
def small_model():
    from .checkpoints import small_csm

    return small_csm()


@pytest.fixture(scope="package")
def small_folder(small_model, tmp_path_factory):
    from .checkpoints import save_transformers_layout

    return save_transformers_layout(small_model, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="package", params=["onnx", "torch-cpu", "torch-cuda"])
def small_backend(request, small_folder, tmp_path_factory):
    """The small checkpoint in float32, six slots, on every backend that this machine has."""
    if request.param == "onnx":
        return make_backend(small_folder, tmp_path_factory.mktemp("cache"), "float32", slots=6)
    device = request.param.removeprefix("torch-")
    if device == "cuda":
        from tts_provider.engines.csm.torch.device import why_no_cuda

        if reason := why_no_cuda():
            pytest.skip(reason)
    return make_torch_backend(small_folder, device=device, slots=6)


def make_backend(folder, cache, precision, *, slots, adapter=None):
    from tts_provider.engines.csm.cpu.backend import CpuBackend
    from tts_provider.engines.csm.cpu.choice import load_language
    from tts_provider.engines.csm.cpu.weights import load_weights
    from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint, read_all

    checkpoint = open_checkpoint(folder, adapter)
    weights = load_weights(checkpoint, precision, cache, print)
    language = load_language(checkpoint.config, weights, precision, slots, 2, print)
    codec_config, codec = find_codec(checkpoint, None)
    return CpuBackend(
        checkpoint.config,
        weights,
        language,
        read_all(codec),
        codec_config,
        precision=precision,
        slots=slots,
        threads=2,
    )


def make_torch_backend(
    folder, *, device="cpu", precision="float32", slots, adapter=None, **options
):
    from tts_provider.engines.csm.files.checkpoint import find_codec, open_checkpoint, read_all
    from tts_provider.engines.csm.torch.backend import TorchBackend
    from tts_provider.engines.csm.torch.weights import reader

    checkpoint = open_checkpoint(folder, adapter)
    codec_config, codec = find_codec(checkpoint, None)
    return TorchBackend(
        checkpoint.config,
        reader(checkpoint),
        read_all(codec),
        codec_config,
        device=device,
        precision=precision,
        slots=slots,
        on_progress=print,
        **options,
    )


class Kept:
    """A backend that serves the next test too: closing it does nothing."""

    def __init__(self, backend) -> None:
        self._backend = backend

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def close(self):
        pass

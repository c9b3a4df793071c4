from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from lazy_import import lazy_import
from tts_provider.config import Settings
from tts_provider.engines.csm.build import _fall_back, choose_device
from tts_provider.engines.csm.config import CSM_1B, MimiConfig, read_mimi_config
from tts_provider.engines.csm.torch.device import GIB, plan_memory, why_no_cuda
from tts_provider.errors import StartupError

graphs = lazy_import("tts_provider.engines.csm.torch.graphs")
mimi = lazy_import("tts_provider.engines.csm.torch.mimi")
tape = lazy_import("engines.csm.torch.tape")
torch = lazy_import("torch")
transformers = lazy_import("transformers")

META = "meta"


@pytest.fixture
def cuda() -> None:
    if reason := why_no_cuda():
        pytest.skip(reason)


@pytest.fixture
def no_cuda() -> None:
    if why_no_cuda() is None:
        pytest.skip("this machine has CUDA")


def choose(**flags):
    return choose_device(Settings(_env_file=None, **flags))


@pytest.mark.usefixtures("no_cuda")
def test_without_cuda_auto_is_the_cpu():
    assert choose() == ("cpu", "int8")
    assert choose(precision="float32") == ("cpu", "float32")
    with pytest.raises(StartupError, match="bfloat16 needs CUDA"):
        choose(precision="bfloat16")


@pytest.mark.usefixtures("no_cuda")
def test_asking_for_cuda_where_there_is_none_says_why():
    with pytest.raises(StartupError, match=r"--device cuda is not available: .+; install"):
        choose(device="cuda")


@pytest.mark.usefixtures("cuda")
def test_auto_finds_cuda():
    assert choose()[0] == "cuda"
    assert choose(device="cuda", precision="float32") == ("cuda", "float32")


def test_the_quantized_formats_are_the_cpus():
    assert choose(precision="int4") == ("cpu", "int4")
    with pytest.raises(StartupError, match="--precision int8 is for the CPU"):
        choose(device="cuda", precision="int8")


@pytest.fixture(scope="module")
def codec():
    """The published codec's shapes, without values."""
    with torch.device(META):
        return transformers.MimiModel(transformers.MimiConfig(num_quantizers=32))


def test_the_memory_plan_counts_weights_and_streams(codec):
    config = mimi_config_of_shapes(codec)
    plan = plan_memory(CSM_1B, config, codec_bytes=200 * 2**20, ring=264, item_bytes=2)
    # 1.63 G weights of the model, tied tables once, and the projected table.
    assert plan.weights / 2 == pytest.approx(1.7e9 + 1e8, rel=0.05)
    # 16 layers of 2 · 8 heads · 2048 positions · 64 in two bytes, and what works on them.
    assert 64 * 2**20 < plan.stream < 90 * 2**20
    assert plan.streams(2 * GIB) == -1, "not even the weights"
    least = plan.weights + plan.work + 2 * GIB
    assert plan.streams(least + plan.stream) == 0
    assert plan.streams(least + 2 * plan.stream) == 1
    assert plan.streams(32 * GIB) > 256
    assert "not even" not in (plan.why_too_little(least) or "")
    assert "one stream does not fit" in (plan.why_too_little(least) or "")
    assert "weights do not fit" in (plan.why_too_little(2 * GIB) or "")
    assert plan.why_too_little(least + 2 * plan.stream) is None
    assert plan.streams_beside_all(GIB + 3 * plan.stream) == 2
    assert "GiB free" in plan.describe(24 * GIB)


def mimi_config_of_shapes(model) -> MimiConfig:
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return read_mimi_config(Path(folder) / "config.json")


def published_mimi(model):
    """Tensors without values, by their published names."""
    weights = mimi.MimiWeights(mimi_config_of_shapes(model), {}, torch.device(META))
    for name, value in model.state_dict().items():
        for side in ("encoder", "decoder"):
            name = name.replace(f"{side}.{side}_transformer.", f"{side}_transformer.")
            name = name.replace(f"{side}.{side}_seanet.", f"{side}.")
            for layer in ("upsample", "downsample"):
                name = name.replace(f"{side}.{layer}.", f"{layer}.")
        weights._tensors[name] = value
    return weights


def test_what_the_codec_takes_while_it_works_is_in_the_plan(codec):
    """Counted where the plan is widest: 256 frames of sound at once, a minute's recording."""
    weights = published_mimi(codec)
    config = weights.config
    plan = plan_memory(CSM_1B, config, codec_bytes=0, ring=264, item_bytes=2)
    peaks = {}
    with torch.no_grad():
        decoder, encoder = mimi.MimiDecoder(weights, 65), mimi.MimiEncoder(weights)
        rows = torch.zeros(64, dtype=torch.int64, device=META)
        codes = torch.zeros((64, mimi.MOST_FRAMES, 32), dtype=torch.int64, device=META)
        with tape.LivePeak() as live:
            decoder.run(rows, rows, codes)
        peaks["decoding"] = live.peak
        for seconds in (5, 60):
            with tape.LivePeak() as live:
                encoder.run(torch.zeros(seconds * 24_000, device=META))
            peaks[seconds] = live.peak
    assert 0.6 * plan.work < peaks["decoding"] + peaks[60] < plan.work
    assert peaks[60] < 2 * peaks[5] + 200 * 2**20, "a long recording takes little more"


def test_a_gpu_that_is_too_small_is_the_cpu_s_turn(caplog):
    wanted = Settings(_env_file=None)
    assert _fall_back(wanted, "the GPU has too little memory") == ("cpu", "int8")
    assert "CSM-1B runs on the CPU: the GPU has too little memory" in caplog.text
    kept = Settings(_env_file=None, precision="float32")
    assert _fall_back(kept, "too little") == ("cpu", "float32")
    for flags in ({"device": "cuda"}, {"precision": "bfloat16"}):
        with pytest.raises(StartupError, match="too little; close what else uses the GPU"):
            _fall_back(Settings(_env_file=None, **flags), "too little")


@pytest.fixture
def gpu(monkeypatch):
    """A driver, a PyTorch for CUDA and a GPU, as far as `device.py` asks for them."""

    class Working:
        def add_(self, _):
            return self

        def item(self):
            return 2.0

    monkeypatch.setattr("tts_provider.engines.csm.torch.device.has_driver", lambda: True)
    monkeypatch.setattr("torch.version.cuda", "12.8")
    monkeypatch.setattr("torch.__version__", "2.13.0+cu128")
    monkeypatch.setattr("torch.cuda.init", lambda: None)
    monkeypatch.setattr("torch.ones", lambda *_, **__: Working())
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA Test")
    return monkeypatch


def test_auto_takes_the_gpu_at_the_precision_that_it_has(gpu):
    assert choose() == ("cuda", "bfloat16")
    assert choose(precision="float32") == ("cuda", "float32")
    gpu.setattr("torch.cuda.get_device_capability", lambda: (7, 5))
    assert choose() == ("cuda", "float32")
    for flags in ({}, {"device": "cuda"}):
        with pytest.raises(StartupError) as caught:
            choose(precision="bfloat16", **flags)
        assert str(caught.value) == (
            "--precision bfloat16 needs a GPU of compute capability 8.0 or later; this one "
            "(NVIDIA Test) has 7.5: take --precision float32"
        )


@pytest.mark.parametrize("version", ["2.6.0+cu124", "2.8.1", "1.13.1"])
def test_an_old_pytorch_is_told_with_what_to_do(gpu, version):
    gpu.setattr("torch.__version__", version)
    reason = why_no_cuda()
    assert reason is not None
    assert f"this PyTorch ({version}) is too old" in reason
    assert "install 2.9 or later" in reason
    assert choose() == ("cpu", "int8")


@pytest.mark.parametrize("version", ["2.9.0", "2.11.0+cu128", "3.0.0a0+git1"])
def test_a_new_one_is_not(gpu, version):
    gpu.setattr("torch.__version__", version)
    assert why_no_cuda() is None


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, OSError, None])
def test_what_cuda_says_when_it_begins_is_told_whatever_kind_it_is(gpu, kind):
    def fail():
        text = "The NVIDIA driver on your system is too old.\nPlease update"
        raise (kind or torch.cuda.DeferredCudaCallError)(text)

    gpu.setattr("torch.cuda.init", fail)
    assert why_no_cuda() == "The NVIDIA driver on your system is too old."
    with pytest.raises(StartupError, match="--device cuda is not available: The NVIDIA driver"):
        choose(device="cuda")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError("libcudart.so.12: cannot open shared object file\nmore"),
            "PyTorch cannot be imported: libcudart.so.12: cannot open shared object file; "
            "install it anew",
        ),
        (
            ImportError("undefined symbol: ncclCommInit"),
            "PyTorch cannot be imported: undefined symbol: ncclCommInit; install it anew",
        ),
        (
            ModuleNotFoundError("No module named 'sympy'", name="sympy"),
            "PyTorch cannot be imported: No module named 'sympy'; install it anew",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "PyTorch is not installed; pip install 'tts-provider[cuda]'",
        ),
    ],
)
def test_a_pytorch_that_cannot_be_imported_is_told_with_the_reason(monkeypatch, error, told):
    class Refusing:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise error

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    assert why_no_cuda() == told


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (32, [1, 2, 4, 8, 16, 32])]
)
def test_buckets_end_with_the_most(most, sizes):
    assert graphs.buckets(most) == sizes
    assert graphs.fitting(sizes, most) == most


def test_a_lane_on_cpu_runs_what_it_captured():
    cpu = torch.device("cpu")
    lane, inbox = graphs.Lane(cpu), graphs.Inbox(3, 2, cpu)
    total = torch.zeros(2, dtype=torch.int64)
    run = lane.capture("a sum", lambda: total.copy_(inbox.tensor.sum(0)))
    with lane.active():
        inbox.put(torch.tensor([[1, 2], [3, 4]]).numpy())
        run()
        receive = graphs.Outbox(4, torch.int64, cpu).send(total)
        total.zero_()
    assert receive().tolist() == [4, 6]

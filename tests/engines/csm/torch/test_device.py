from __future__ import annotations

import dataclasses

import pytest

from engines.csm.small_codec import make_small_mimi, mimi_config_of
from lazy_import import lazy_import
from tts_provider.config import Settings
from tts_provider.engines.csm.build import choose_device
from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.torch.device import GIB, plan_memory, why_no_cuda
from tts_provider.errors import StartupError

graphs = lazy_import("tts_provider.engines.csm.torch.graphs")
torch = lazy_import("torch")


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
    with pytest.raises(StartupError, match=r"--device cuda cannot be had: .+; install"):
        choose(device="cuda")


@pytest.mark.usefixtures("cuda")
def test_auto_finds_cuda():
    assert choose()[0] == "cuda"
    assert choose(device="cuda", precision="float32") == ("cuda", "float32")


def test_the_quantized_formats_are_the_cpus():
    assert choose(precision="int4") == ("cpu", "int4")
    with pytest.raises(StartupError, match="--precision int8 is the CPU's"):
        choose(device="cuda", precision="int8")


def test_the_memory_plan_counts_weights_and_streams():
    mimi = dataclasses.replace(
        mimi_config_of(make_small_mimi(0)), layers=8, kv_heads=8, head_size=64, width=512
    )
    plan = plan_memory(CSM_1B, mimi, codec_bytes=200 * 2**20, ring=264, item_bytes=2)
    # 1.63 G weights of the model, tied tables once, and the projected table.
    assert plan.weights / 2 == pytest.approx(1.7e9 + 1e8, rel=0.05)
    # 16 layers of 2 · 8 heads · 2048 positions · 64 in two bytes, and what works on them.
    assert 64 * 2**20 < plan.stream < 90 * 2**20
    assert plan.streams(2 * GIB) == -1, "not even the weights"
    assert plan.streams(plan.weights + 3 * GIB // 2 + plan.stream) == 0
    assert plan.streams(24 * GIB) > 200
    assert "GiB free" in plan.describe(24 * GIB)


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
    run = lane.capture(lambda: total.copy_(inbox.tensor.sum(0)))
    with lane.active():
        inbox.put(torch.tensor([[1, 2], [3, 4]]).numpy())
        run()
        receive = graphs.Outbox(4, torch.int64, cpu).send(total)
        total.zero_()
    assert receive().tolist() == [4, 6]

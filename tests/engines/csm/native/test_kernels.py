"""The kernels in C against ONNX Runtime on the same weights, and against themselves, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.cpu.choice import load_language
from tts_provider.engines.csm.cpu.weights import load_weights
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.engines.csm.native import library
from tts_provider.engines.csm.native.language import NativeLanguage, check_fits
from tts_provider.engines.csm.native.library import NoKernels, open_kernels
from tts_provider.engines.csm.onnx.sessions import OnnxLanguage
from tts_provider.engines.csm.prompt import text_prompt
from tts_provider.engines.csm.sampling import Sampler

from ..conftest import make_backend

SLOTS = 6
LONG = 300  # more rows than pass through a layer at once


@pytest.fixture(scope="module", params=["int8", "int4"])
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def config(small_folder):
    return open_checkpoint(small_folder).config


@pytest.fixture(scope="module")
def weights(small_folder, precision, tmp_path_factory):
    cache = tmp_path_factory.mktemp("weights")
    return load_weights(open_checkpoint(small_folder), precision, cache, print)


@pytest.fixture
def make(config, weights):
    """A language model on the kernels; they are closed after the test."""
    made = []

    def make(build: str | None = None, threads: int = 2) -> NativeLanguage:
        try:
            kernels = open_kernels(build)
        except NoKernels as reason:
            pytest.skip(str(reason))
        made.append(NativeLanguage(kernels, config, weights, slots=SLOTS, threads=threads))
        return made[-1]

    yield make
    for language in made:
        language.close()


def inputs(batch: int, sequence: int, width: int) -> np.ndarray:
    random = np.random.default_rng(sequence)
    return random.standard_normal((batch, sequence, width)).astype(np.float32)


def read(language, x, lengths, first_row=0) -> np.ndarray:
    """Both answers of the backbone side by side."""
    answers = language.read(x, first_row, np.array(lengths, np.int32))
    return np.concatenate(answers, axis=1)


def speak(language, x) -> np.ndarray:
    """The logits of three codebooks, [3, B, codes]; `x` [B, 4, depth W]."""
    pieces = x[:, :2], x[:, 2:3], x[:, 3:]
    return np.array([language.speak(p, book).copy() for book, p in enumerate(pieces, 1)])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("build", ["avx2", "avx512vnni"])
def test_they_say_what_onnx_runtime_says(make, config, weights, build):
    ours = make(build)
    theirs = OnnxLanguage(config, weights, slots=SLOTS, threads=2)
    width, depth_width = config.backbone.width, config.depth.width
    for x, lengths, row in (
        (inputs(1, LONG, width), [0], 2),  # a long prompt
        (inputs(3, 1, width), [0, 7, LONG], 0),  # steps of rows at different lengths
        (inputs(1, 2, width), [LONG + 1], 2),
    ):
        found, expected = (read(language, x, lengths, row) for language in (ours, theirs))
        assert found.shape == expected.shape == (len(x), config.audio_vocabulary + depth_width)
        assert cosine(found, expected) > 0.999
    for batch in (1, SLOTS):
        x = inputs(batch, 4, depth_width)
        assert cosine(speak(ours, x), speak(theirs, x)) > 0.999


def test_nothing_depends_on_the_processor_or_on_the_number_of_threads(make, config):
    one = make("avx2", threads=1)
    for other in (make("avx2", threads=3), make("avx512vnni", threads=2)):
        x, frame = inputs(1, LONG, config.backbone.width), inputs(SLOTS, 4, config.depth.width)
        assert np.array_equal(read(one, x, [0]), read(other, x, [0]))
        assert all(np.array_equal(*both) for both in zip(one.kv, other.kv, strict=True))
        assert np.array_equal(speak(one, frame), speak(other, frame))


def test_a_row_is_the_same_alone_and_in_company(make, config):
    language = make()
    x, frame = inputs(SLOTS, 5, config.backbone.width), inputs(SLOTS, 4, config.depth.width)
    together = read(language, x, [0] * SLOTS)
    spoken = speak(language, frame)
    for row in range(SLOTS):
        assert np.array_equal(read(language, x[row : row + 1], [0], row)[0], together[row])
        assert np.array_equal(speak(language, frame[row : row + 1])[:, 0], spoken[:, row])


@pytest.mark.parametrize("piece", [1, 7, 129])
def test_a_prompt_may_be_read_in_pieces(make, config, piece):
    language = make()
    x = inputs(1, LONG, config.backbone.width)
    whole = read(language, x, [0]).copy()
    kept = [kv[0, :, :LONG].copy() for kv in language.kv]
    for start in range(0, LONG, piece):
        answer = read(language, x[:, start : start + piece], [start])
    assert np.array_equal(answer, whole)
    assert all(np.array_equal(a, b[0, :, :LONG]) for a, b in zip(kept, language.kv, strict=True))


def test_company_that_joins_and_leaves_changes_nothing(small_folder, precision, tmp_path):
    backend = make_backend(small_folder, tmp_path, precision, slots=SLOTS)
    alone = say(backend, company=False)
    assert len(np.unique(alone, axis=0)) > 10
    assert np.array_equal(say(backend, company=True), alone)
    backend.close()


def say(backend, *, company: bool) -> np.ndarray:
    """Forty frames of one stream; the others come before it, beside it, and go."""
    others = [backend.acquire() for _ in range(3 * company)]
    for slot in others:
        backend.prefill(slot, text_prompt([128000, 9 + slot, 128001], 32))
    ours, codes = backend.acquire(), []
    backend.prefill(ours, text_prompt([128000, 5, 60, 128001], 32))
    samplers = {slot: Sampler(slot) for slot in others} | {ours: Sampler(7)}
    for frame in range(40):
        if others and frame % 10 == 9:
            backend.release(others.pop(0))
        slots = [*others, ours]
        codes.append(backend.step(slots, [samplers[slot] for slot in slots])[-1])
    for slot in (*others, ours):
        backend.release(slot)
    return np.array(codes)


def test_closing_ends_the_threads(make):
    def count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = count()
    language = make(threads=4)
    assert count() == before + 3
    language.close()
    assert count() == before
    language.close()


# Where they do not run


def test_float32_and_odd_widths_are_onnx_runtimes():
    check_fits(CSM_1B, "int8")
    with pytest.raises(NoKernels, match="for int8 and int4"):
        check_fits(CSM_1B, "float32")
    for change in ({"width": 24}, {"mlp_width": 40}, {"head_size": 8}, {"head_size": 512}):
        odd = replace(CSM_1B, depth=replace(CSM_1B.depth, **change))
        with pytest.raises(NoKernels, match=r"multiples of 16.*here are width"):
            check_fits(odd, "int8")


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ({"platform.machine": lambda: "aarch64"}, "Linux on x86-64"),
        ({"_processor_flags": frozenset}, "need a processor with AVX2"),
        ({"FOLDER": Path("/nowhere")}, "cannot be loaded .*nowhere.* install tts-provider again"),
    ],
)
def test_elsewhere_onnx_runtime_takes_over_and_says_why(
    config, weights, precision, monkeypatch, patch, sentence
):
    open_or_skip()
    for name, value in patch.items():
        monkeypatch.setattr(f"{library.__name__}.{name}", value)
    with pytest.raises(NoKernels, match=sentence) as refusal:
        open_kernels()
    said: list[str] = []
    language = load_language(config, weights, precision, SLOTS, 2, said.append)
    assert isinstance(language, OnnxLanguage)
    assert said == [f"building the graphs for ONNX Runtime: {refusal.value}"]


def test_a_build_for_another_processor_is_refused(monkeypatch):
    open_or_skip()
    monkeypatch.setattr(library, "_processor_flags", lambda: library._BUILDS["avx2"])
    assert open_kernels().name == "avx2"
    with pytest.raises(NoKernels, match="does not run the kernels for avx512vnni"):
        open_kernels("avx512vnni")


def open_or_skip() -> None:
    try:
        open_kernels()
    except NoKernels as reason:
        pytest.skip(str(reason))

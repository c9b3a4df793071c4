"""Adapters beside the kernels' layers: near what merging them comes to, and in any company the same
to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tts_provider.engines.csm.adapters.low_rank import BACKBONE, DEPTH, MATRICES, Factors, LowRank
from tts_provider.engines.csm.config import CSM_1B
from tts_provider.engines.csm.cpu.language import Frame
from tts_provider.engines.csm.cpu.stepwise import Stepwise
from tts_provider.engines.csm.cpu.weights import load_weights
from tts_provider.engines.csm.files.checkpoint import Checkpoint, expected_shapes
from tts_provider.engines.csm.files.tensors import Tensor
from tts_provider.engines.csm.native.language import NativeLanguage
from tts_provider.engines.csm.onnx.sessions import OnnxLanguage
from tts_provider.engines.csm.sampling import Sampler

SLOTS = 10  # more than the rows of one product
LONG = 300
# Wide enough that a product's inputs are cut into pieces, the last of which is shorter.
PART = replace(
    CSM_1B.backbone, layers=2, width=64, heads=4, kv_heads=2, head_size=16, mlp_width=1088
)
CONFIG = replace(
    CSM_1B,
    text_vocabulary=8,
    audio_vocabulary=40,
    positions=512,
    backbone=PART,
    depth=replace(PART, width=48, heads=2, kv_heads=1),
)
SHAPES = {
    (prefix, layer, matrix): expected_shapes(CONFIG)[f"{prefix}.layers.{layer}.{name}.weight"]
    for prefix, part in ((BACKBONE, CONFIG.backbone), (DEPTH, CONFIG.depth))
    for layer in range(part.layers)
    for matrix, name in zip(
        MATRICES,
        [*(f"self_attn.{m}_proj" for m in "qkvo"), *(f"mlp.{m}_proj" for m in MATRICES[4:])],
        strict=True,
    )
}


@pytest.fixture(scope="module")
def tensors(tmp_path_factory) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for name, shape in expected_shapes(CONFIG).items():
        array = random.standard_normal(shape).astype(np.float32)
        made[name] = array * shape[-1] ** -0.5 if len(shape) > 1 else 1 + 0.1 * array
    return made


def prepare(tensors, precision, folder):
    source = folder / "model"
    source.touch()
    made = {
        name: Tensor(source, array.shape, lambda array=array: array)
        for name, array in tensors.items()
    }
    return load_weights(Checkpoint(CONFIG, made, {}), precision, folder / precision, print)


@pytest.fixture(scope="module")
def weights(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {precision: prepare(tensors, precision, folder) for precision in ("int8", "int4")}


@pytest.fixture
def make(weights, kernels_for, elsewhere):
    made = []

    def make(precision="int4", build=None, threads=2) -> NativeLanguage:
        kernels = kernels_for(build if elsewhere is None or build == "avx2" else elsewhere)
        made.append(
            NativeLanguage(kernels, CONFIG, weights[precision], slots=SLOTS, threads=threads)
        )
        return made[-1]

    yield make
    for language in made:
        language.close()


def draw(seed: int, rank: int = 4, keep=lambda key: True, strength: float = 0.5) -> LowRank:
    """An adapter of every matrix that `keep` takes, whose products are of about the size of the
    matrices times `strength`."""
    random = np.random.default_rng(seed)
    factors = {}
    for key, (outputs, inputs) in SHAPES.items():
        a = random.standard_normal((rank, inputs)) * (inputs * rank) ** -0.5
        b = random.standard_normal((outputs, rank)) * strength
        if keep(key):
            factors[key] = Factors(a.astype(np.float32), b.astype(np.float32))
    return LowRank(factors)


def inputs(batch: int, sequence: int, width: int) -> np.ndarray:
    random = np.random.default_rng(sequence)
    return random.standard_normal((batch, sequence, width)).astype(np.float32)


def answer(language, rows, x, frame, adapters=None) -> list[np.ndarray]:
    """For rows of x and of frame: the answers to a prompt, to a step behind it, and to a frame's
    first codebooks. `adapters` are of all rows."""
    mine = [] if adapters is None else [adapters[row] for row in rows]
    nothing = np.zeros(len(rows), np.int32)
    read = language.read(x[rows, :-1], 0, nothing, mine)
    again = language.read(x[rows, -1:], 0, nothing + x.shape[1] - 1, mine)
    pieces = frame[rows, :2], frame[rows, 2:3], frame[rows, 3:]
    spoken = [language.speak(piece, book, mine) for book, piece in enumerate(pieces, 1)]
    return [each.copy() for each in (*read, *again, *spoken)]


ONLY = {
    "all seven": lambda key: True,
    "queries": lambda key: key[2] == "q",
    "keys": lambda key: key[2] == "k",
    "values": lambda key: key[2] == "v",
    "outputs": lambda key: key[2] == "o",
    "gates": lambda key: key[2] == "gate",
    "ups": lambda key: key[2] == "up",
    "downs": lambda key: key[2] == "down",
    "one layer": lambda key: key[1] == 1,
    "the backbone": lambda key: key[0] == BACKBONE,
}


@pytest.mark.parametrize("keep", ONLY.values(), ids=ONLY)
def test_what_it_adds_is_what_merging_adds(make, tensors, tmp_path, keep):
    """Against float32 on ONNX Runtime, with and without the product in the weights: the difference
    of both is what is left, so that rounding the base does not hide it."""
    adapter, merged = draw(3, rank=7, keep=keep), dict(tensors)
    for (prefix, layer, matrix), factors in adapter.factors.items():
        kind = "self_attn" if matrix in "qkvo" else "mlp"
        name = f"{prefix}.layers.{layer}.{kind}.{matrix}_proj.weight"
        merged[name] = tensors[name] + factors.b @ factors.a
    x, frame = inputs(1, 40, CONFIG.backbone.width), inputs(1, 4, CONFIG.depth.width)
    language = make("int8")
    ours = answer(language, [0], x, frame, [language.load_adapter(adapter)])
    plain = answer(language, [0], x, frame)
    (tmp_path / "merged").mkdir()
    expected, base = (
        answer(
            OnnxLanguage(CONFIG, prepare(each, "float32", folder), slots=1, threads=2),
            [0],
            x,
            frame,
        )
        for each, folder in ((merged, tmp_path / "merged"), (tensors, tmp_path))
    )
    clear = 0
    for found, without, wanted, wanted_without in zip(ours, plain, expected, base, strict=True):
        added = np.linalg.norm(wanted - wanted_without)
        error = np.linalg.norm((found - without) - (wanted - wanted_without))
        assert error < 0.04 * np.linalg.norm(wanted)
        clear += error < 0.2 * added
    assert clear >= 2, "what it adds is lost among what rounding does"


@pytest.fixture
def company(make):
    """A language model, and an adapter or none for each of its rows: equal ones side by side and
    apart, ranks and matrices of all kinds."""
    language = make()
    many = {
        "a": draw(1),
        "b": draw(2, rank=33),
        "c": draw(3, rank=1, keep=lambda key: key[2] in ("k", "up", "down")),
        "d": draw(4, rank=256, keep=lambda key: key[0] == DEPTH and key[1] == 0),
    }
    loaded = {name: language.load_adapter(adapter) for name, adapter in many.items()} | {"-": None}
    return language, [loaded[name] for name in "a-bbbca-da"], loaded


def test_a_row_is_the_same_alone_and_in_company(company):
    language, adapters, _ = company
    x, frame = inputs(SLOTS, 9, CONFIG.backbone.width), inputs(SLOTS, 4, CONFIG.depth.width)
    everybody = list(range(SLOTS))
    together = answer(language, everybody, x, frame, adapters)
    for rows in ([row] for row in everybody):
        for alone, all_rows in zip(
            answer(language, rows, x, frame, adapters), together, strict=True
        ):
            assert np.array_equal(alone, all_rows[rows])
    some = [9, 2, 1, 5, 4]
    for few, all_rows in zip(answer(language, some, x, frame, adapters), together, strict=True):
        assert np.array_equal(few, all_rows[some])
    # Who has none has what everybody has without adapters; who has one has something else.
    without = answer(language, everybody, x, frame)
    for with_them, nobody, part in zip(together, without, "bbbbddd", strict=True):
        for row, name in enumerate("a-bbbca-da"):
            is_equal = np.array_equal(with_them[row], nobody[row])
            assert is_equal == (name == "-" or (name == "d" and part == "b"))


def test_a_frame_in_one_call_has_them_too(company, weights):
    """As its single products have them, alone and in company."""
    language, adapters, _ = company
    random = np.random.default_rng(5)
    language.read(inputs(SLOTS, 9, CONFIG.backbone.width), 0, np.zeros(SLOTS, np.int32), adapters)

    def frame(rows) -> Frame:
        return Frame(
            rows=rows,
            lengths=np.full(SLOTS, 9, np.int32),
            read=[None if row % 3 == 0 else codes[row] for row in rows],
            logits=logits[rows],
            projected=projected[rows],
            samplers=[Sampler(row) for row in rows],
            choices=CONFIG.audio_vocabulary,
            adapters=[adapters[row] for row in rows],
        )

    codes = random.integers(0, CONFIG.audio_vocabulary, (SLOTS, CONFIG.codebooks))
    logits = random.standard_normal((SLOTS, CONFIG.audio_vocabulary)).astype(np.float32)
    projected = random.standard_normal((SLOTS, CONFIG.depth.width)).astype(np.float32)
    everybody = list(range(SLOTS))
    together = language.frame(frame(everybody))
    products = Stepwise(language, CONFIG, weights["int4"])
    assert np.array_equal(products.frame(frame(everybody)), together)
    for rows in ([0], [7], [9, 2, 1, 5, 4]):
        assert np.array_equal(language.frame(frame(rows)), together[rows])


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_a_prompt_may_be_read_in_pieces(company, piece):
    language, _, loaded = company
    x, mine = inputs(1, LONG, CONFIG.backbone.width), [loaded["b"]]
    whole = language.read(x, 0, np.zeros(1, np.int32), mine)
    kept = [kv[0, :, :LONG].copy() for kv in language.kv]
    for start in range(0, LONG, piece):
        part = x[:, start : start + piece]
        pieces = language.read(part, 0, np.array([start], np.int32), mine)
    assert all(np.array_equal(*both) for both in zip(whole, pieces, strict=True))
    assert all(np.array_equal(a, b[0, :, :LONG]) for a, b in zip(kept, language.kv, strict=True))


@pytest.mark.parametrize(
    ("build", "threads"), [("avx2", 1), ("avx2", 13), ("avxvnni", 2), ("avx512vnni", 3)]
)
def test_nothing_depends_on_the_processor_or_on_the_number_of_threads(make, build, threads):
    one, other = make(build="avx2"), make(build=build, threads=threads)
    x, frame = inputs(3, LONG, CONFIG.backbone.width), inputs(3, 4, CONFIG.depth.width)
    found = [
        answer(
            language,
            [0, 1, 2],
            x,
            frame,
            [language.load_adapter(draw(1)), None, language.load_adapter(draw(2, rank=40))],
        )
        for language in (one, other)
    ]
    assert all(np.array_equal(*both) for both in zip(*found, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("matrix", MATRICES)
def test_what_is_not_finite_stays_in_its_row_and_shows(make, matrix, value):
    language = make()
    broken = draw(1, keep=lambda key: key[2] == matrix)
    for factors in broken.factors.values():
        factors.a[0, 0], factors.a[-1, -1] = 1e38, 3e38
        factors.b[:] = np.sign(factors.b) * 1e30
    whole = draw(2)
    adapters = [language.load_adapter(broken), language.load_adapter(whole)]
    x, frame = inputs(2, 5, CONFIG.backbone.width), inputs(2, 4, CONFIG.depth.width)
    alone = answer(language, [1], x, frame, adapters)
    found = answer(language, [0, 1], x, frame, adapters)
    for both, mine in zip(found, alone, strict=True):
        assert not np.isfinite(both[0]).any()
        assert np.array_equal(both[1:], mine)

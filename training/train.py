"""The small CSM, one stage at a time: `python training/train.py data|codec|model|export`.

Each stage reads what those before it left in `build/small-csm`; `model` goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
from pathlib import Path

import numpy as np
import torch
from transformers import CsmForConditionalGeneration, MimiModel

from codec import fit_codec
from language import config, train
from lists import Lists, Recording, Speech
from tokenizer import save_tokenizer
from words import FRAME, WORDS, speak_lists, speak_words

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "small-csm"
CHECKPOINT = ROOT / "tests" / "data" / "small-csm"
SEED = 1
_LISTS, _OFFSETS = 120, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("data", "codec", "model", "export"))
    parser.add_argument("--steps", type=int, default=2000, help="of the stage `model`")
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
    else:
        export()


def make_data() -> None:
    words = asyncio.run(speak_words())
    lists = asyncio.run(speak_lists(_LISTS, SEED))
    with (WORK / "speech.pickle").open("wb") as file:
        pickle.dump((words, lists), file)
    frames = sum(map(len, words.values()))
    print(f"{len(WORDS)} words in two voices, {frames} frames; {len(lists)} lists read aloud")


def make_codec() -> None:
    words, lists = _read_data()
    frames = np.concatenate(list(words.values()))
    codec = fit_codec(frames, SEED)
    with torch.no_grad():
        codes = codec.encode(torch.from_numpy(frames).reshape(1, 1, -1)).audio_codes
        heard = codec.decode(codes).audio_values.numpy().reshape(frames.shape)
        print(f"{_snr_db(frames, heard):.1f} dB, {len(codes[0].unique(dim=1).T)} frames differ")
        speech = _encode(codec, words, lists)
        alike = [codes[0].T.numpy() == np.concatenate(list(speech.words.values()))]
        print(f"{np.mean(alike):.2%} of the codes are those of the encoder itself")
    with (WORK / "codes.pickle").open("wb") as file:
        pickle.dump(speech, file)
    codec.save_pretrained(WORK / "codec")


def _encode(
    codec: MimiModel,
    words: dict[tuple[str, int], np.ndarray],
    lists: list[tuple[tuple[str, ...], int, np.ndarray]],
) -> Speech:
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

    recordings: dict[int, list[Recording]] = {0: [], 1: []}
    for text, speaker, samples in lists:
        for _ in range(_OFFSETS):
            # A recording's frames begin anywhere, and nobody is as loud as the next.
            samples = samples[int(random.integers(FRAME)) :] * 10 ** random.uniform(-0.3, 0.2)
            recordings[speaker].append(Recording(text, encode(samples)))
    return Speech(
        {key: encode(frames.reshape(-1)) for key, frames in words.items()},
        encode(np.zeros(FRAME))[0],
        recordings,
    )


def make_model(steps: int) -> None:
    with (WORK / "codes.pickle").open("rb") as file:
        speech = pickle.load(file)
    train(_new_model(), Lists(speech, SEED), steps=steps, seed=SEED, state=WORK / "model.pt")


def export() -> None:
    model = _new_model()
    model.load_state_dict(torch.load(WORK / "model.pt", weights_only=True)["model"])
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


def _read_data() -> tuple[
    dict[tuple[str, int], np.ndarray], list[tuple[tuple[str, ...], int, np.ndarray]]
]:
    with (WORK / "speech.pickle").open("rb") as file:
        return pickle.load(file)


def _snr_db(said: np.ndarray, heard: np.ndarray) -> float:
    return 10 * float(np.log10(np.square(said).sum() / np.square(said - heard).sum()))


if __name__ == "__main__":
    main()

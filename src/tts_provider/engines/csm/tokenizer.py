"""Text + speaker → token ids, as the model was trained: `[0]Hello` between begin and end."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer as HubTokenizer

from tts_provider.errors import StartupError

_BEGIN, _END = "<|begin_of_text|>", "<|end_of_text|>"
# Where a tokenizer does not name them, they are Llama 3's.
_LLAMA_BEGIN, _LLAMA_END = 128_000, 128_001


class Tokenizer:
    """The model's own, CSM-1B's is Llama 3.2's. Special tokens in a text are read as the characters
    they are."""

    def __init__(self, path: Path, vocabulary: int) -> None:
        """Raises `StartupError` where it is none for a model of `vocabulary` text tokens."""
        try:
            self._tokenizer = HubTokenizer.from_str(_without_padding(path, vocabulary))
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise StartupError(
                f"{path} is not a tokenizer ({str(error)[:120]}); download it again"
            ) from None
        begin, end = map(self._tokenizer.token_to_id, (_BEGIN, _END))
        self._begin = _LLAMA_BEGIN if begin is None else begin
        self._end = _LLAMA_END if end is None else end
        largest = max(*self._tokenizer.get_vocab().values(), self._begin, self._end)
        if largest >= vocabulary:
            raise StartupError(
                f"{path} has tokens up to {largest}, the model only up to {vocabulary - 1}; is it "
                "another model's tokenizer?"
            )
        # Special tokens would be cut out of the text before anything else; escaped, the same
        # characters reach the model as plain text.
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str, speaker: int) -> list[int]:
        """Token ids of one segment of text, begin and end included."""
        inner: list[int] = self._tokenizer.encode(
            f"[{speaker}]{text}", add_special_tokens=False
        ).ids
        return [self._begin, *inner, self._end]


def _without_padding(path: Path, vocabulary: int) -> str:
    """The tokenizer's file without tokens that were added behind the model's last: trainers add one
    to fill batches with, like `[PAD]`, and the model has no embedding for it."""
    text = path.read_text("utf-8")
    body = json.loads(text)
    added = body.get("added_tokens") or []
    kept = [token for token in added if token["id"] < vocabulary]
    if len(kept) == len(added):
        return text
    return json.dumps({**body, "added_tokens": kept})

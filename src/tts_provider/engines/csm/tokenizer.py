"""Text + speaker → token ids, as the model was trained: `[0]Hello` between begin and end."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer as HubTokenizer

from tts_provider.errors import StartupError

BEGIN_OF_TEXT = 128_000
END_OF_TEXT = 128_001


class Tokenizer:
    """Llama 3.2's tokenizer. Special tokens in a text are read as the characters they are."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = HubTokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise StartupError(
                f"{path} is no tokenizer ({str(error)[:120]}); download it again"
            ) from None
        # Special tokens would be cut out of the text before anything else; escaped, the same
        # characters reach the model as plain text.
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str, speaker: int) -> list[int]:
        """Token ids of one segment of text, begin and end included."""
        inner: list[int] = self._tokenizer.encode(
            f"[{speaker}]{text}", add_special_tokens=False
        ).ids
        return [BEGIN_OF_TEXT, *inner, END_OF_TEXT]

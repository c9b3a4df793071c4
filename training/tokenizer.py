"""A tokenizer of whole words: marks are nothing, what it does not know is a word of its own."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from words import UNKNOWN, WORDS

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


def make_tokenizer() -> Tokenizer:
    tokens = (BEGIN, END, "[", "]", "0", "1", *WORDS)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\w\s\[\]]"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, END)])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    make_tokenizer().save(str(folder / "tokenizer.json"))

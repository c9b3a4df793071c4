from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models, pre_tokenizers

from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.errors import StartupError

from .checkpoints import write_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json")
    return Tokenizer(tmp_path / "tokenizer.json", 128_256)


def test_the_speaker_stands_in_brackets_without_a_space(tokenizer):
    ids = tokenizer.encode("Hello", 1)
    assert (ids[0], ids[-1]) == (128_000, 128_001)
    assert ids[1:-1] == tokenizer._tokenizer.encode("[1]Hello").ids
    assert len(ids) == 2 + len("[1]Hello")


@pytest.mark.parametrize("special", ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
def test_special_tokens_in_a_text_are_its_characters(tokenizer, special):
    ids = tokenizer.encode(f"a{special}b", 0)
    assert all(i < 256 for i in ids[1:-1])
    assert len(ids) == 2 + len("[0]ab") + len(special)


def test_a_file_that_is_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(StartupError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json", 128_256)


def test_a_model_of_few_words_names_its_own_begin_and_end(tmp_path):
    words = {"?": 0, "[": 1, "]": 2, "0": 3, "1": 4, "seven": 5}
    hub = HubTokenizer(models.WordLevel(words, unk_token="?"))
    hub.pre_tokenizer = pre_tokenizers.Punctuation("isolated")
    hub.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    hub.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", 8)
    assert tokenizer.encode("seven", 1) == [6, 1, 4, 2, 5, 7]
    assert 6 not in tokenizer.encode("<|begin_of_text|>", 0)[1:]


def test_a_tokenizer_of_another_model(tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(StartupError, match="tokens up to 128001, the model only up to 127999"):
        Tokenizer(tmp_path / "tokenizer.json", 128_000)


@pytest.mark.parametrize("special", [True, False])
def test_a_token_that_a_trainer_added_is_never_used(tmp_path, special):
    """The notebooks add `[PAD]` behind the last token; the model has no embedding for it."""
    write_tokenizer(tmp_path / "tokenizer.json")
    hub = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    (hub.add_special_tokens if special else hub.add_tokens)(["[PAD]"])
    assert hub.token_to_id("[PAD]") == 256
    body = json.loads(hub.to_str())
    body["added_tokens"][0]["id"] = 128_256
    (tmp_path / "tokenizer.json").write_text(json.dumps(body))
    ids = Tokenizer(tmp_path / "tokenizer.json", 128_256).encode("a[PAD]b", 0)
    assert all(i < 256 for i in ids[1:-1])
    assert len(ids) == 2 + len("[0]a[PAD]b")

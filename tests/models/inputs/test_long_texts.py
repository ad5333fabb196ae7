"""A text that is encoded in parts has the tokens that one call gives it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from orchestrator.inputs.corpus import load_dataset_rows, make_corpus, raw_text
from orchestrator.inputs.long_texts import Encoded, ids_of
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.tokenizer import ModelTokenizer
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

TEXT = raw_text(SAMPLE_ROWS)
# Of Llama 3's tokenizer.json.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ODD = ["=", " ", "\n", "a", "\r\n", "é", "e\u0301", "🙂", "東京", "<unk>", "ab "]
SPECIAL = ["<unk>", "<s>", "</s>", "[UNK]"]


def of_bytes(*steps: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return trained(tokenizer, trainers.BpeTrainer, initial_alphabet=alphabet)


def trained(tokenizer: Tokenizer, trainer: Any, **options: Any) -> Tokenizer:
    chosen = trainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False, **options)
    tokenizer.train_from_iterator([*SAMPLE_ROWS, "=" * 64, " " * 64, "aaaaaaaa"], chosen)
    return tokenizer


def gpt2() -> Tokenizer:
    return of_bytes(pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3() -> Tokenizer:
    split = pre_tokenizers.Split(Regex(_LLAMA3), "isolated")
    return of_bytes(split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))


def llama2() -> Tokenizer:
    """Merges over the whole text, with a space put before it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return trained(tokenizer, trainers.BpeTrainer)


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return trained(tokenizer, trainers.UnigramTrainer, unk_token="<unk>")


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(tokenizer, trainers.WordPieceTrainer)


def odd_text(chance: random.Random) -> str:
    """Real text, with long words, runs, blanks and letters of several bytes put into it."""
    parts = []
    for _ in range(40):
        begin = chance.randrange(len(TEXT))
        parts.append(TEXT[begin : begin + chance.randrange(1500)])
        parts.append(chance.choice(ODD) * chance.choice([1, 2, 30, 700]))
        parts.append("".join(chance.choices("abcdef0123456789", k=chance.choice([0, 40, 900]))))
    return "".join(parts)


def encoder(tokenizer: Tokenizer) -> Callable[[str], Encoded]:
    def encode(text: str) -> Encoded:
        made = tokenizer.encode(text, add_special_tokens=False)
        places = np.asarray(made.offsets, np.int64).reshape(-1, 2)
        return Encoded(np.asarray(made.ids, np.int32), places[:, 0], places[:, 1])

    return encode


@pytest.mark.parametrize("make", [gpt2, llama3, llama2, unigram, wordpiece])
def test_parts_have_the_tokens_of_the_whole(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    for seed in range(12):
        text = odd_text(random.Random(seed))
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        for part in (1024, 4096, 2**20):
            assert ids_of(text, encoder(tokenizer), part).tolist() == expected, (seed, part)


def test_plain_text_is_never_encoded_whole() -> None:
    longest = 0
    encode = encoder(llama3())

    def watched(text: str) -> Encoded:
        nonlocal longest
        longest = max(longest, len(text))
        return encode(text)

    text = TEXT * 4
    assert len(ids_of(text, watched, 2048)) > 0
    assert longest < 2048 * 1.1 < len(text)


def test_where_no_place_to_cut_is_found_the_text_is_encoded_whole() -> None:
    text = "0123456789abcdef" * 4000
    tokenizer = llama2()
    assert ids_of(text, encoder(tokenizer), 512).tolist() == tokenizer.encode(text).ids


class Loaded:
    """A model's tokenizer, and the one of transformers that it is a face of."""

    def __init__(self, folder: Path) -> None:
        self.ours = ModelTokenizer(resolve_model(str(folder), None))
        self.theirs: Any = PreTrainedTokenizerFast.from_pretrained(folder)

    def whole(self, text: str) -> list[int]:
        return list(self.theirs(text)["input_ids"])


@pytest.fixture(params=[False, True], ids=["bare", "bos"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
    return Loaded(make_tiny_model(tmp_path / "model", bos=request.param))


# Longer than a part; of next to nothing; with special tokens of its own.
@pytest.mark.parametrize("text", [TEXT * 40, "a", " ", "", "</s>", "<s>Begun."])
def test_a_models_tokenizer_puts_the_same_around_it(loaded: Loaded, text: str) -> None:
    ids = loaded.ours.encode_long(text)
    assert loaded.ours.with_special_tokens(ids, text).tolist() == loaded.whole(text)
    assert ids.tolist() == loaded.theirs(text, add_special_tokens=False)["input_ids"]


def test_wikitext2_has_the_tokens_of_one_call(loaded: Loaded, wikitext2_test: Path) -> None:
    dataset = load_dataset_rows(str(wikitext2_test))
    corpus = make_corpus(dataset, loaded.ours, "concat", 2048, 2048)
    ids = [token for window in corpus.windows for token in window.input_ids]
    assert ids == loaded.whole("\n\n".join(dataset.rows))
    assert corpus.words == len("\n\n".join(dataset.rows).split())

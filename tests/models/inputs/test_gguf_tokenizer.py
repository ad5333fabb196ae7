"""A GGUF file as the model cuts text into the tokens that its folder cuts it into."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from orchestrator.errors import BadInputError
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.tokenizer import ModelTokenizer
from tests.gguf_models import write_gguf
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

pytest.importorskip("gguf", reason="gguf is not installed")

TEXTS = (
    "In 1987654 it wasn't known; IT'S 42% of £3,141.59 ...",
    "  two spaces\n\n\nthree lines\t\ttabs \r\n and an end ",
    "Zürich, the e\u0301cole, 東京 and 🙂 at iPhone15ProMax",
    *SAMPLE_ROWS[:20],
)
# Of Llama 3's tokenizer.json.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Of Mistral Nemo's.
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def of_bytes(*steps: Any, whole: bool = False) -> Tokenizer:
    """Merges of bytes after some way to split."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, *SAMPLE_ROWS], trainer)
    return tokenizer


def of_pieces(prefix: bool) -> Tokenizer:
    """SentencePiece's, as transformers converts it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    first = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    # One word at a time: SentencePiece merges no piece across words.
    words = [word for row in SAMPLE_ROWS for word in row.split()]
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def bytes_only() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


SPLITS = {
    "gpt-2": lambda: of_bytes(gpt2()),
    "smollm": lambda: of_bytes(pre_tokenizers.Digits(individual_digits=True), gpt2()),
    "llama-bpe": lambda: of_bytes(split(_LLAMA3), bytes_only(), whole=True),
    "tekken": lambda: of_bytes(split(_TEKKEN), bytes_only(), whole=True),
}


def save(tokenizer: Tokenizer, folder: Path, bos: bool) -> Path:
    """A folder with a model and this tokenizer."""
    make_tiny_model(folder, "llama", vocabulary=tokenizer.get_vocab_size())
    if bos:
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    unknown = {"unk_token": "<unk>"} if "<unk>" in tokenizer.get_vocab() else {}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        **unknown,
    ).save_pretrained(folder)
    return folder


def check_same(folder: Path, file: Path, bos: bool) -> None:
    one, other = (ModelTokenizer(resolve_model(str(name), None)) for name in (folder, file))
    for text in TEXTS:
        for special in (False, True):
            assert other.encode(text, special) == one.encode(text, special)
    assert one.adds_bos == other.adds_bos == bos
    assert one.prefix_id == other.prefix_id


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", SPLITS)
def test_bytes_are_merged_within_what_the_file_says_stays_together(
    name: str, bos: bool, tmp_path: Path
) -> None:
    folder = save(SPLITS[name](), tmp_path / "folder", bos)
    file = write_gguf(
        folder,
        tmp_path / "model.gguf",
        splits=name,
        extra=lambda writer: writer.add_add_bos_token(bos),
    )
    check_same(folder, file, bos)


def test_qwens_text_is_composed_first(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "folder", "qwen2")
    check_same(folder, write_gguf(folder, tmp_path / "model.gguf"), bos=False)


@pytest.mark.parametrize("prefix", [False, True])
def test_pieces_are_merged_by_their_scores(prefix: bool, tmp_path: Path) -> None:
    folder = save(of_pieces(prefix), tmp_path / "folder", bos=True)
    file = write_gguf(
        folder,
        tmp_path / "model.gguf",
        splits="default",
        extra=lambda writer: writer.add_add_space_prefix(prefix),
    )
    check_same(folder, file, bos=True)


def test_a_way_to_split_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "folder", "llama")
    file = write_gguf(folder, tmp_path / "model.gguf", splits="tomorrows-bpe")
    told = r"model\.gguf: not read here: tokenizer\.ggml\.pre 'tomorrows-bpe'"
    with pytest.raises(BadInputError, match=told):
        resolve_model(str(file), None)

"""Trains the embedded demo model: a small Mistral for English text in WikiText's spacing.

    python tools/train_demo_model.py OUT_DIR TEXT_FILE... [--seed 0] [--steps 3000] [--resume]

One of the text files is a WikiText split (told by its ` = Title = ` headings); its last articles
are held out to choose the weights that are kept. The others hold one paragraph a line.

A few megabytes of text are far too little for the usual recipe, so all here fights overfitting:
dropout, strong weight decay, fresh words for every `<unk>`, an average of the weights along the
way, and larger teachers, whose averaged predictions the model that is kept learns from.
"""

import argparse
import copy
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import MistralConfig, MistralForCausalLM

BOS, EOS = "<s>", "</s>"
WINDOW = 512

# WikiText separates punctuation from words by spaces; these rules, in this order, do so too.
_SPACING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\[(?:Sidenote|Illustration|Music)[^]]*\]|[_|*]", ""),
        (r"[“”]", '"'),
        (r"[‘’]", "'"),
        (r"…", "..."),
        (r"-{2,}", " — "),
        (r'(["—;:!?()/%$£&\[\]]|\.{3,}|,(?!\d))', r" \1 "),
        (r"(?<=\d)([.,])(?=\d)", r" @\1@ "),
        (r"(?<=\w)-(?=\w)", " @-@ "),
        (r"(?<!\w)'|'(?!\w)", " ' "),
        (r"(?<=\w)'(?=\w)", " '"),
        # A full stop, unless it ends an initial or a title.
        (r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])(?<!\.)\.(?=\s|$)", " . "),
        (r"\s+", " "),
    )
)


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on besides the texts.

    Attributes:
        wikitext_share: the share of training windows from WikiText, at the start and at the end.
        renderings: versions of the WikiText text, each with other words for its `<unk>`.
        hard_weight: the weight of the text against the teachers' predictions, where there are any.
    """

    steps: int = 3000
    seed: int = 0
    device: str = "cpu"
    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 6
    intermediate: int = 704
    head_dim: int = 64
    teachers: int = 0
    teacher_scale: int = 2
    teacher_steps: int = 2000
    hard_weight: float = 0.3
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    dropout: float = 0.2
    teacher_dropout: float = 0.4
    average_decay: float = 0.995
    wikitext_share: tuple[float, float] = (0.5, 0.8)
    held_out: float = 0.06
    renderings: int = 8
    bpe_dropout: float = 0.0
    muon: bool = False
    check_every: int = 100


@dataclass(frozen=True)
class Tokens:
    """The training texts as token ids: the renderings of WikiText, the books, what is held out."""

    wikitext: tuple[NDArray[np.int64], ...]
    books: NDArray[np.int64]
    held_out: NDArray[np.int64]
    held_out_bytes: int


def to_wikitext_spacing(paragraph: str) -> str:
    """A paragraph of ordinary text with WikiText's spaces around punctuation."""
    for pattern, replacement in _SPACING:
        paragraph = pattern.sub(replacement, paragraph)
    return f" {paragraph.strip()} " if paragraph.strip() else ""


def is_wikitext(text: str) -> bool:
    """Whether a text has WikiText's headings."""
    return re.search(r"^ = [^=]+ = $", text, re.MULTILINE) is not None


def split_articles(rows: Sequence[str], held_out: float) -> tuple[list[str], list[str]]:
    """Training rows and held-out rows: the last articles, about that share of the rows."""
    begin = int(len(rows) * (1 - held_out))
    while begin < len(rows) and not is_wikitext(rows[begin]):
        begin += 1
    return list(rows[:begin]), list(rows[begin:])


def fill_unknown(rows: Sequence[str], rare: Sequence[Sequence[str]], seed: int) -> list[str]:
    """Puts a word in the place of every `<unk>`.

    The raw text that the model is measured on has a rare word there, two times out of three a name.
    A rare word of the training texts stands in for it, another one in each rendering, so that the
    model learns where such words come and how they are spelled, not which one came here.
    """
    rng = random.Random(seed)
    names, others = rare

    def word(_: re.Match[str]) -> str:
        return rng.choice(names if rng.random() < 2 / 3 else others)

    return [re.sub("<unk>", word, row) for row in rows]


def rare_words(rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that come once or twice: the names (capitalised) and the others."""
    counts = Counter(word for row in rows for word in row.split())
    rare = sorted(word for word, count in counts.items() if count <= 2 and word.isalpha())
    names = [word for word in rare if word.istitle()]
    return names, [word for word in rare if word.islower()]


def lay_out(rows: Sequence[str]) -> list[str]:
    r"""The pieces of the rows joined by "\n\n", as the hub's WikiText is: a row and its line ends.

    The tokenizer never joins tokens over the end of such a piece.
    """
    text = "\n\n".join(f"{row}\n" if row.strip() else "" for row in rows)
    return re.findall(r"[^\n]+\n*|^\n+", text)


def train_tokenizer(pieces: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer that adds no special tokens of itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the tokenizer in the layout that transformers' `AutoTokenizer` reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "model_max_length": WINDOW,
        "clean_up_tokenization_spaces": False,
    }
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def encode(tokenizer: Tokenizer, pieces: Sequence[str]) -> NDArray[np.int64]:
    """The token ids of a text given in pieces."""
    encodings = tokenizer.encode_batch(list(pieces), add_special_tokens=False)
    return np.concatenate([np.array(encoding.ids, dtype=np.int64) for encoding in encodings])


def prepare(files: Sequence[Path], recipe: Recipe) -> tuple[Tokenizer, Tokens]:
    """Reads the texts, trains the tokenizer and encodes them."""
    texts = [path.read_text("utf-8") for path in files]
    rows = [row for text in texts if is_wikitext(text) for row in text.split("\n")]
    training, held_out = split_articles(rows, recipe.held_out)
    if not held_out:
        raise SystemExit("no text file has WikiText's headings, or too few articles to hold out")
    paragraphs = [line for text in texts if not is_wikitext(text) for line in text.split("\n")]
    books = [row for row in map(to_wikitext_spacing, paragraphs) if row]

    rare = rare_words(training + books)
    renderings = [
        lay_out(fill_unknown(training, rare, recipe.seed + number))
        for number in range(recipe.renderings)
    ]
    tokenizer = train_tokenizer(renderings[0] + lay_out(books), recipe.vocabulary)
    checked = lay_out(fill_unknown(held_out, rare, recipe.seed))
    checked_ids = encode(tokenizer, checked)
    if recipe.bpe_dropout:
        tokenizer.model.dropout = recipe.bpe_dropout
    tokens = Tokens(
        wikitext=tuple(encode(tokenizer, pieces) for pieces in renderings),
        books=encode(tokenizer, lay_out(books)),
        held_out=checked_ids,
        held_out_bytes=len("".join(checked).encode()),
    )
    tokenizer.model.dropout = None
    return tokenizer, tokens


def make_model(recipe: Recipe, scale: int, seed: int, dropout: float) -> MistralForCausalLM:
    """A model with random weights; dropout acts on it while it trains and leaves no trace in it.

    Tied embeddings: at this size separate ones would take a sixth of the weights from the layers.
    """
    config = MistralConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden * scale,
        intermediate_size=recipe.intermediate * scale,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden * scale // recipe.head_dim,
        num_key_value_heads=recipe.hidden * scale // recipe.head_dim,
        head_dim=recipe.head_dim,
        max_position_embeddings=WINDOW,
        sliding_window=None,
        tie_word_embeddings=True,
        attention_dropout=dropout,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(seed)
    model = MistralForCausalLM(config)
    for layer in model.model.layers:
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            projection.weight.data /= math.sqrt(2 * recipe.layers)

    def drop(module: torch.nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (drop(module, _, output[0]), *output[1:])
        return functional.dropout(output, dropout, module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)
    return model.to(recipe.device)


def draw_batch(tokens: Tokens, recipe: Recipe, seed: int, progress: float) -> torch.Tensor:
    """Windows from random places; one in ten begins a sequence, to give `<s>` a meaning."""
    rng = np.random.default_rng(seed)
    first, last = recipe.wikitext_share
    share = first + (last - first) * progress
    windows = []
    for _ in range(recipe.batch):
        wikitext = tokens.wikitext[rng.integers(len(tokens.wikitext))]
        source = wikitext if rng.random() < share else tokens.books
        begin = rng.integers(len(source) - WINDOW)
        window = source[begin : begin + WINDOW + 1].copy()
        if rng.random() < 0.1:
            window[0] = 0
        windows.append(window)
    return torch.from_numpy(np.stack(windows)).to(recipe.device)


def logits_of(model: MistralForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """The model's logits, computed in bf16 on a GPU."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda"):
        return cast(torch.Tensor, model(ids, use_cache=False).logits).float()


@torch.no_grad()
def held_out_loss(model: MistralForCausalLM, tokens: Tokens, device: str) -> float:
    """Mean negative log-likelihood of the held-out tokens, in windows."""
    usable = len(tokens.held_out) // WINDOW * WINDOW
    windows = torch.from_numpy(tokens.held_out[:usable]).view(-1, WINDOW).to(device)
    losses = [
        functional.cross_entropy(logits_of(model, part)[:, :-1].mT, part[:, 1:]) * len(part)
        for part in windows.split(16)
    ]
    return torch.stack(losses).sum().item() / len(windows)


def train(
    model: MistralForCausalLM,
    teachers: Sequence[MistralForCausalLM],
    tokens: Tokens,
    recipe: Recipe,
    steps: int,
    seed: int,
    checkpoint: Path,
    resume: bool,
) -> MistralForCausalLM:
    """Trains a model and returns the average of its weights that did best on the held-out text.

    Every draw depends on the seed and the step alone, so a resumed run repeats the whole one.
    """
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    embeddings = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" in n]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.muon:
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    else:
        groups.append({"params": matrices, "weight_decay": recipe.weight_decay})
    optimizers.append(torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98)))
    average = copy.deepcopy(model).eval().requires_grad_(False)
    best, best_loss, begin = copy.deepcopy(average.state_dict()), math.inf, 0
    history = []
    for step in range(begin, steps):
        torch.manual_seed(seed * 1_000_003 + step)
        progress = step / steps
        rate = recipe.learning_rate * min((step + 1) / 100, (1 - progress))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        batch = draw_batch(tokens, recipe, seed * 1_000_003 + step, progress)
        logits = logits_of(model, batch[:, :-1]).flatten(0, 1)
        loss = functional.cross_entropy(logits, batch[:, 1:].flatten())
        if teachers:
            with torch.no_grad():
                soft = torch.stack(
                    [logits_of(t, batch[:, :-1]).flatten(0, 1).softmax(-1) for t in teachers]
                ).mean(0)
            loss = recipe.hard_weight * loss + (1 - recipe.hard_weight) * functional.cross_entropy(
                logits, soft
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(recipe.average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if (step + 1) % recipe.check_every == 0 or step + 1 == steps:
            checked = held_out_loss(average, tokens, recipe.device)
            history.append((step + 1, round(loss.item(), 3), round(checked, 4)))
            if checked < best_loss:
                best, best_loss = copy.deepcopy(average.state_dict()), checked
    average.load_state_dict(best)
    average.history = history
    average.best_loss = best_loss
    return average

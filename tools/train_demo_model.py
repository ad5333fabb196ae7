"""Trains the demo model and its tokenizer from plain text, on a GPU or a CPU.

    python tools/train_demo_model.py OUT_DIR --wikitext WIKITEXT_FILE --books BOOKS_FILE

The text is small (a million tokens), so that the model sees it dozens of times: dropout, weight
decay and an average of the weights over time are what make it generalize. A twentieth of the
WikiText part is held out, and the average with the lowest loss on it is what is saved. The state is
checkpointed, and `--resume` continues from it. The defaults are those of the embedded model.
"""

import argparse
import json
import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy, dropout
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

CONTEXT = 512
VOCABULARY = 4096
HELD_OUT_SHARE = 0.05
AVERAGE_DECAY = 0.999


def wikitext_rows(path: Path, generator: random.Random) -> list[str]:
    """The rows of a WikiText file in the hub's layout, its unknown words replaced.

    `<unk>` never occurs in raw WikiText. A rare word of the same text stands in for each, since
    rare words are what it hid.
    """
    text = path.read_text(encoding="utf-8")
    counts = Counter(word for word in text.split() if word.isalpha())
    rare = sorted(word for word, count in counts.items() if count <= 2)
    text = re.sub("<unk>", lambda _: generator.choice(rare), text)
    return [f"{line}\n" if line.strip() else "" for line in text.split("\n")]


def book_rows(path: Path) -> list[str]:
    """The paragraphs of a book as rows, spaced as WikiText spaces its tokens."""
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        line = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", line)
        line = re.sub(r"(?<=\d),(?=\d)", " @,@ ", line)
        line = re.sub(r"(?<=\w)'s\b", " 's", line)
        line = re.sub(r'([.,;:!?()"\[\]])(?![@])', r" \1 ", line).replace("@ , @", "@,@")
        words = line.split()
        if words:
            rows.append(f" {' '.join(words)} \n")
    return rows


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that adds no token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(dropout_share: float) -> MistralForCausalLM:
    """A fresh model, with dropout on the embeddings and on what each block adds."""
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = MistralForCausalLM(config)

    def drop(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (dropout(output[0], dropout_share, module.training), *output[1:])
        return dropout(output, dropout_share, module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)
    return model


def learning_rate_share(step: int, steps: int) -> float:
    """Linear warm-up over the first 4%, then a cosine to a twentieth."""
    warm_up = max(1, steps // 25)
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


@torch.inference_mode()
def mean_loss(model: MistralForCausalLM, ids: torch.Tensor) -> float:
    """Nats a token over disjoint windows of the context's length."""
    model.eval()
    total, count = 0.0, 0
    for window in ids.split(CONTEXT):
        if len(window) < 2:
            continue
        logits = model(input_ids=window[None]).logits[0, :-1].float()
        total += float(cross_entropy(logits, window[1:], reduction="sum"))
        count += len(window) - 1
    model.train()
    return total / count


def train(options: argparse.Namespace) -> None:
    """Runs the training and writes the model's folder."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    generator = random.Random(options.seed)
    torch.manual_seed(options.seed)
    wikitext, books = wikitext_rows(options.wikitext, generator), book_rows(options.books)
    cut = int(len(wikitext) * (1 - HELD_OUT_SHARE))
    train_text = "\n\n".join(wikitext[:cut])
    tokenizer = train_tokenizer([train_text] * options.wikitext_weight + ["\n\n".join(books)])

    def ids_of(text: str) -> torch.Tensor:
        return torch.tensor(tokenizer(text)["input_ids"], device=device)

    held_out = ids_of("\n\n".join(wikitext[cut:]))
    sources = [ids_of(train_text), ids_of("\n\n".join(books))]
    sizes = torch.tensor([len(sources[0]) * options.wikitext_weight, len(sources[1])])
    shares = sizes / sizes.sum()

    model = make_model(options.dropout).to(device)
    average = make_model(0.0).to(device)
    average.load_state_dict(model.state_dict())
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        betas=(0.9, 0.98),
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = options.folder / "training-state.pt"
    first, best, best_state = 0, math.inf, average.state_dict()
    if options.resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, best, best_state = state["step"], state["best"], state["best_state"]

    for step in range(first, options.steps):
        # A seed of the step's own: a resumed run draws what an undisturbed one would.
        draws = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        batch = []
        for source in torch.multinomial(shares, options.batch, True, generator=draws).tolist():
            begin = int(torch.randint(len(sources[source]) - CONTEXT, (1,), generator=draws))
            batch.append(sources[source][begin : begin + CONTEXT])
        inputs = torch.stack(batch)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * learning_rate_share(step, options.steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(input_ids=inputs).logits[:, :-1]
        loss = cross_entropy(logits.float().flatten(0, 1), inputs[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            now = mean_loss(average, held_out)
            if now < best:
                best = now
                best_state = {name: value.clone() for name, value in average.state_dict().items()}
            print(f"step {step + 1}: {loss.item():.3f} held out {now:.4f} best {best:.4f}")
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "best": best,
                "best_state": best_state,
            }
            temporary = checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(checkpoint)

    average.load_state_dict(best_state)
    average.to(torch.float16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    if options.evaluate:
        report(average.float(), tokenizer, options.evaluate, best)


def report(
    model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path, held_out: float
) -> None:
    """Prints what the model reaches on a Parquet file in the hub's layout of WikiText."""
    from pyarrow import parquet

    text = "\n\n".join(parquet.read_table(path)["text"].to_pylist())
    ids = torch.tensor(tokenizer(text)["input_ids"], device=model.device)
    loss = mean_loss(model, ids)
    figures = {
        "held_out_loss": held_out,
        "perplexity": math.exp(loss),
        "word_perplexity": math.exp(loss * len(ids) / len(text.split())),
        "bits_per_byte": loss * len(ids) / len(text.encode()) / math.log(2),
        "tokens": len(ids),
    }
    print(json.dumps(figures))


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wikitext", type=Path, required=True, help="WikiText, training part")
    parser.add_argument("--books", type=Path, required=True, help="prose, a paragraph a line")
    parser.add_argument("--evaluate", type=Path, help="a .parquet to report on; chooses nothing")
    parser.add_argument("--wikitext-weight", type=int, default=2, help="times a pass sees it")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--every", type=int, default=250, help="steps between checks")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--resume", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()

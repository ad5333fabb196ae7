"""Small random-weight models on disk, for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

ARCHITECTURES = ("mistral", "llama", "qwen2")
BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1

_TRAINING_TEXT = """
The river rises in the northern hills and runs for ninety miles before it reaches the sea. Along
its upper course it is narrow and quick , and the old mills that stand beside it were built to
take power from the falling water. Below the town of Harrow it widens , the valley opens , and
farms appear on both banks. For many years the people of the valley carried their grain , wool and
timber down to the harbour in flat boats , and the journey took three days in summer and five in
winter. A railway was opened in the nineteenth century , and within a decade the boats were gone.

The first bridge was made of wood. It was lost in a flood , and the second , which was made of
stone , had seven arches and a small chapel in the middle. During the war the eastern part of the
bridge was destroyed by the retreating army ; it was rebuilt by engineers from the city , who
finished the work in less than a year. The present bridge has two lanes for cars and a path for
walkers. It was described by one critic as " a plain answer to a difficult question " , and by
another as the best thing that the county had ever paid for.

Music has always been important here. The song that every child in the valley learns tells of a
captain who would not leave his ship , although the storm had taken the mast and the sails. There
are at least twelve versions of it , and nobody can say which of them is the oldest. A recording
was released by the local choir and it received good reviews from most newspapers. The album was
followed by a tour of eleven cities , and the singers were met by large crowds at each of them.

The forest to the west is home to deer , foxes , owls and more than forty species of moth. Its
trees are mainly oak and birch. Since the government made it a park , the number of visitors has
grown from a few hundred to several thousand in a season , which has brought both money and
problems to the villages around it. Scientists from the university study the soil , the streams
and the weather , and they publish a report on the state of the forest at the end of every year.
"""


def make_tiny_model(
    folder: Path,
    architecture: str = "mistral",
    *,
    seed: int = 0,
    bos: bool = False,
    vocabulary: int = 512,
    max_positions: int = 128,
    tied: bool = False,
    hidden: int = 64,
) -> Path:
    """Write a random fp16 model and its tokenizer to a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _make_tokenizer(architecture, bos, vocabulary).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _make_config(architecture, vocabulary, max_positions, tied, hidden)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    # These begin as all ones or all zeros: a loader that lost them would pass.
                    parameter.add_(0.2 * torch.randn_like(parameter))
    model.to(torch.float16).save_pretrained(folder)
    return folder


def save_random_model(config: Any, folder: Path, tokenizer: Path) -> Path:
    """Write a random fp16 model of a configuration, with the tokenizer of another folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    # Exact in float16, as is one more, which GGUF files add to some norms.
                    parameter.add_(torch.randint(-40, 40, parameter.shape) / 256)
    model.to(torch.float16).save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    return folder


def make_mistral(folder: Path, *, hidden: int, intermediate: int, layers: int, **more: Any) -> Path:
    """Write a random fp16 Mistral of these sizes, with a tokenizer, below a folder."""
    config = MistralConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        **more,
    )
    return save_random_model(config, folder / "model", make_tiny_model(folder / "tokenizer"))


def edit_json(path: Path, **changes: Any) -> None:
    """Sets some keys of a JSON file, which need not be there yet."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Gives a model's folder the tokenizer of another."""
    for path in source.glob("tokenizer*"):
        shutil.copy(path, target)


def _make_config(
    architecture: str, vocabulary: int, max_positions: int, tied: bool, hidden: int
) -> Any:
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_positions,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": None,
    }
    if architecture == "mistral":
        # Heads wider than hidden_size / heads, as in Mistral-Nemo.
        return MistralConfig(**settings, head_dim=32, sliding_window=None)
    if architecture == "mixtral":
        return MixtralConfig(**settings, num_local_experts=4, num_experts_per_tok=2)
    if architecture == "llama":
        return LlamaConfig(**settings, head_dim=16)
    if architecture == "qwen2":
        return Qwen2Config(**settings)
    if architecture == "gemma2":
        return Gemma2Config(
            **settings, head_dim=16, query_pre_attn_scalar=16, final_logit_softcapping=5.0
        )
    if architecture == "cohere":
        return CohereConfig(**settings, logit_scale=0.25)
    if architecture == "granite":
        return GraniteConfig(**settings, logits_scaling=4.0)
    if architecture == "bert":
        # Its head stands behind layers of its own, and has a bias.
        return BertConfig(**settings, is_decoder=True)
    if architecture == "mamba":
        # It has no attention, and takes none of its settings.
        tokens = {name: settings[name] for name in settings if name.endswith("_token_id")}
        return MambaConfig(
            vocab_size=settings["vocab_size"], hidden_size=64, num_hidden_layers=2, **tokens
        )
    if architecture == "falcon-h1":
        # It multiplies the logits by a constant of a name that only it uses.
        return FalconH1Config(
            **settings,
            lm_head_multiplier=0.5,
            mamba_d_ssm=64,
            mamba_n_heads=32,
            mamba_d_head=2,
            mamba_d_state=16,
            mamba_n_groups=1,
            mamba_chunk_size=32,
        )
    raise ValueError(f"no such architecture: {architecture}")


def _make_tokenizer(architecture: str, bos: bool, vocabulary: int) -> PreTrainedTokenizerFast:
    alphabet = ByteLevel.alphabet()
    if vocabulary < len(alphabet) + 2:
        raise ValueError(f"vocabulary must be at least {len(alphabet) + 2}")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXT.split("\n"), trainer)
    if bos:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A",
            pair=f"{BOS} $A {BOS} $B",
            special_tokens=[(BOS, BOS_ID)],
        )
    # AutoTokenizer loads Qwen2's as Qwen2Tokenizer, whose default for these is a token of its own.
    extra = {"unk_token": EOS, "pad_token": EOS} if architecture == "qwen2" else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        add_bos_token=bos,
        add_eos_token=False,
        clean_up_tokenization_spaces=False,
        **extra,
    )

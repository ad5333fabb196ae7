"""Makes a model of a published architecture with random weights: valid for speed and memory alone.

    python tools/make_random_model.py OUT_DIR [--architecture mistral-7b] [--seed 0]

The weights are drawn on the GPU where there is one, saved as fp16 safetensors in the transformers
folder layout, beside the demo model's tokenizer, whose ids are all in the larger vocabulary.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, MistralConfig, PretrainedConfig, Qwen2Config

_DEMO_MODEL = Path(__file__).parents[1] / "orchestrator" / "data" / "demo-model"

# As published in the config.json of each model. The end of a sequence is the demo tokenizer's.
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "mistral-7b": MistralConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "qwen-0.5b": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    ),
}


def make_random_model(folder: Path, architecture: str, seed: int) -> None:
    """Draws the weights and writes the folder."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(ARCHITECTURES[architecture], dtype=torch.float16)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(_DEMO_MODEL / name, folder / name)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="mistral-7b")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_random_model(arguments.folder, arguments.architecture, arguments.seed)


if __name__ == "__main__":
    main()

"""Settings → everything that a sweep runs over, read and cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.contract.shards import Prompt
from orchestrator.corpus import Corpus, Dataset, load_dataset_rows, make_corpus
from orchestrator.errors import BadInputError
from orchestrator.models import Checkpoint, Model, resolve_model
from orchestrator.prompts import PromptSuite, load_prompts
from orchestrator.settings import Settings
from orchestrator.tokenizer import ModelTokenizer

_DEFAULT_LENGTH = 2048
_LLAMACPP_LENGTH = 512


@dataclass(frozen=True)
class Inputs:
    """What a sweep runs over.

    Attributes:
        checkpoints: what each variant is made of, by its name.
        window_length, stride: in tokens, defaults resolved.
        corpus: the windows to score, and the size of the whole text.
        prompts: the prompts to answer.
    """

    model: Model
    checkpoints: Mapping[str, Checkpoint]
    window_length: int
    stride: int
    dataset: Dataset
    corpus: Corpus
    suite: PromptSuite
    prompts: tuple[Prompt, ...]


def read_inputs(settings: Settings) -> Inputs:
    """Reads and cuts everything that a sweep runs over.

    Raises:
        BadInputError: some of it cannot be used, or nothing is left of it.
    """
    model = resolve_model(settings.model, settings.revision)
    length, stride = window_geometry(settings, model)
    dataset = load_dataset_rows(settings.dataset)
    suite = load_prompts(settings.prompts)
    tokenizer = ModelTokenizer(model)
    prompts = tuple(
        Prompt(
            id=prompt.id, category=prompt.category, input_ids=tokenizer.encode_prompt(prompt.text)
        )
        for prompt in suite.prompts[: settings.max_prompts]
    )
    _check_prompts(prompts, settings, model)
    corpus = make_corpus(dataset, tokenizer, settings.protocol, length, stride)
    corpus = replace(corpus, windows=corpus.windows[: settings.max_windows])
    if not corpus.windows and not prompts:
        raise BadInputError("--max-windows", "no window and no prompt is left; raise a limit")
    return Inputs(
        model=model,
        checkpoints=dict.fromkeys(settings.variants, model.checkpoint),
        window_length=length,
        stride=stride,
        dataset=dataset,
        corpus=corpus,
        suite=suite,
        prompts=prompts,
    )


def window_geometry(settings: Settings, model: Model) -> tuple[int, int]:
    """The window length and stride in tokens, defaults resolved.

    Raises:
        BadInputError: a window beyond the model's maximum, a stride beyond the window.
    """
    default = _LLAMACPP_LENGTH if settings.protocol == "llamacpp" else _DEFAULT_LENGTH
    length = settings.window_length or min(default, model.maximum_length)
    if length > model.maximum_length:
        raise BadInputError(
            "--window-length",
            f"{length} is more than the model's maximum of {model.maximum_length} tokens; lower it",
        )
    stride = settings.stride or max(1, length // 2)
    if stride > length:
        raise BadInputError(
            "--stride", f"{stride} is more than the window length {length}; lower it"
        )
    if settings.protocol == "llamacpp" and length < 4:
        raise BadInputError("--window-length", "llamacpp needs windows of 4 tokens or more")
    return length, stride


def _check_prompts(prompts: Sequence[Prompt], settings: Settings, model: Model) -> None:
    """Refuses prompts that leave no room for their answers."""
    room = model.maximum_length - settings.max_new_tokens
    for prompt in prompts:
        if len(prompt.input_ids) > room:
            raise BadInputError(
                "--max-new-tokens",
                f"prompt '{prompt.id}' has {len(prompt.input_ids)} tokens; with "
                f"{settings.max_new_tokens} new ones it exceeds the model's maximum of "
                f"{model.maximum_length}; lower it or shorten the prompt",
            )

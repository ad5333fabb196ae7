"""Settings → everything that a sweep runs over, read and cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.packages import missing_modules, package_problem
from orchestrator.contract.sampling import looks_at, spread
from orchestrator.contract.shards import Prompt, Window
from orchestrator.contract.variants import TorchaoVariant
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint, embedding_rows, unquantized_experts
from orchestrator.inputs.corpus import (
    Corpus,
    Dataset,
    check_dataset,
    load_dataset_rows,
    make_corpus,
)
from orchestrator.inputs.models import Model, resolve_model
from orchestrator.inputs.prompts import PromptSuite, load_prompts
from orchestrator.inputs.sourced_variants import SourcedVariant, known_variants, resolve_variants
from orchestrator.inputs.tensor_roles import is_linear
from orchestrator.inputs.tokenizer import PROMPTS_DATE, ModelTokenizer
from orchestrator.settings import Settings

_DEFAULT_LENGTH = 2048
_LLAMACPP_LENGTH = 512


@dataclass(frozen=True)
class Sources:
    """What a sweep runs over, found but not read yet.

    Attributes:
        variants: the reference among them, in order.
        reference: the variant that the others are held against.
        window_length, stride: in tokens, defaults resolved.
    """

    model: Model
    variants: tuple[SourcedVariant, ...]
    reference: str
    window_length: int
    stride: int
    suite: PromptSuite

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Each checkpoint once: the reference's, the model's, the others."""
        of_variants = {sourced.name: sourced.checkpoint for sourced in self.variants}
        found: list[Checkpoint] = []
        for one in (of_variants[self.reference], self.model.checkpoint, *of_variants.values()):
            if all(one is not other for other in found):
                found.append(one)
        return found


@dataclass(frozen=True)
class Inputs(Sources):
    """What a sweep runs over.

    Attributes:
        corpus: the whole text, in windows.
        looks: the numbers of the windows to score, in the order in which they are taken: those
            that each look at the text adds to the ones before it.
        prompts: the prompts to answer.
        notes: what a reader of the figures must know of all this.
    """

    dataset: Dataset
    corpus: Corpus
    looks: tuple[tuple[int, ...], ...]
    prompts: tuple[Prompt, ...]
    notes: tuple[Note, ...]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows to score, in the order in which they are taken."""
        return tuple(self.corpus.windows[number] for look in self.looks for number in look)


def read_inputs(settings: Settings) -> Inputs:
    """Finds and cuts everything that a sweep runs over; raises as both steps do."""
    return cut_inputs(settings, find_sources(settings))


def find_sources(settings: Settings) -> Sources:
    """Finds everything that a sweep runs over, which takes a moment; weights begin to be hashed.

    Raises:
        BadInputError: some of it is not there, or cannot be used.
    """
    model = resolve_model(settings.model, settings.revision)
    variants, reference = _variants(settings, model)
    length, stride = window_geometry(settings, model)
    check_dataset(settings.dataset)
    sources = Sources(
        model=model,
        variants=variants,
        reference=reference,
        window_length=length,
        stride=stride,
        suite=load_prompts(settings.prompts),
    )
    for checkpoint in sources.checkpoints:
        checkpoint.begin_hashing()
    return sources


def cut_inputs(settings: Settings, sources: Sources) -> Inputs:
    """Reads what was found and cuts it into tokens, which takes several seconds.

    Raises:
        BadInputError: some of it cannot be used, or nothing is left of it.
    """
    model, suite = sources.model, sources.suite
    dataset = load_dataset_rows(settings.dataset, settings.text_column)
    tokenizer = ModelTokenizer(model)
    prompts = tuple(
        Prompt(
            id=prompt.id, category=prompt.category, input_ids=tokenizer.encode_prompt(prompt.text)
        )
        for prompt in suite.prompts[: settings.max_prompts]
    )
    _check_prompts(prompts, settings, model)
    dated = [note("prompts_dated", date=PROMPTS_DATE)] if tokenizer.wrote_a_date else []
    corpus = make_corpus(
        dataset, tokenizer, settings.protocol, sources.window_length, sources.stride
    )
    looks = _looks(settings, len(corpus.windows))
    if settings.batch_sizes and not prompts:
        raise BadInputError("--batch-sizes", "batches are of prompts; raise --max-prompts")
    if not any(looks) and not prompts:
        raise BadInputError("--max-windows", "no window and no prompt is left; raise a limit")
    inputs = Inputs(
        **vars(sources),
        dataset=dataset,
        corpus=corpus,
        looks=looks,
        prompts=prompts,
        notes=(*dated, *_notes_of_weights(sources.variants, sources.reference, model)),
    )
    _check_ids(inputs)
    return inputs


def _looks(settings: Settings, n: int) -> tuple[tuple[int, ...], ...]:
    """Which of a text's n windows each look adds, by their numbers; most runs take one look."""
    count = n if settings.max_windows is None else min(n, settings.max_windows)
    chosen = range(count) if settings.window_choice == "first" else spread(n, count)
    places = looks_at(count) if settings.until_decided else (range(count),)
    return tuple(tuple(chosen[place] for place in look) for look in places)


def window_geometry(settings: Settings, model: Model) -> tuple[int, int]:
    """The window length and stride in tokens, defaults resolved.

    Raises:
        BadInputError: a window beyond the model's maximum, a stride beyond the window.
    """
    default = _LLAMACPP_LENGTH if settings.protocol == "llamacpp" else _DEFAULT_LENGTH
    if settings.window_length is None and model.maximum_length is None:
        raise BadInputError(
            "--window-length", f"{model.id} does not say its longest input; choose a length"
        )
    length = settings.window_length or min(default, model.maximum_length or default)
    if model.maximum_length is not None and length > model.maximum_length:
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


def _variants(settings: Settings, model: Model) -> tuple[tuple[SourcedVariant, ...], str]:
    """The variants and the reference's name; one that `auto` picks is added if it is not there."""
    variants = resolve_variants(settings, model)
    if settings.cluster in ("local", "none"):
        _check_packages(variants)
    if settings.reference_variant != "auto":
        return variants, settings.reference_variant
    name = "bf16" if model.checkpoint.dtype == "bfloat16" else "fp16"
    if name not in {sourced.name for sourced in variants}:
        own = [sourced for sourced in known_variants(model) if sourced.name == name]
        variants = (*own, *variants)
    return variants, name


def _check_packages(variants: Sequence[SourcedVariant]) -> None:
    """Refuses what cannot be loaded here, before an hour is spent on the others."""
    for sourced in variants:
        variant = sourced.variant
        for module in missing_modules(variant, sourced.checkpoint.location):
            problem = package_problem(variant, module, "not installed here")
            raise BadInputError("--variants", problem)


def _check_prompts(prompts: Sequence[Prompt], settings: Settings, model: Model) -> None:
    """Refuses prompts that leave no room for their answers."""
    if model.maximum_length is None:
        return
    room = model.maximum_length - settings.max_new_tokens
    for prompt in prompts:
        if len(prompt.input_ids) > room:
            raise BadInputError(
                "--max-new-tokens",
                f"prompt '{prompt.id}' has {len(prompt.input_ids)} tokens; with "
                f"{settings.max_new_tokens} new ones it exceeds the model's maximum of "
                f"{model.maximum_length}; lower it or shorten the prompt",
            )


def _check_ids(inputs: Inputs) -> None:
    """Refuses tokens that the model has no embedding of: a GPU fails at them without a word."""
    model = inputs.model
    rows = embedding_rows(model.checkpoint.tensors)
    windows = ((*window.input_ids, *window.target_ids) for window in inputs.windows)
    ids = (token for text in (*windows, *(p.input_ids for p in inputs.prompts)) for token in text)
    if rows and (largest := max(ids, default=0)) >= rows:
        raise BadInputError(
            "--model",
            f"{model.id}: its tokenizer gives token {largest}, but its embedding has {rows} rows; "
            "take the tokenizer that belongs to it",
        )


def _notes_of_weights(
    variants: Sequence[SourcedVariant], reference: str, model: Model
) -> list[Note]:
    """Says where a variant's weights are not what its name, or its part here, lets expect."""
    own = [sourced for sourced in variants if sourced.checkpoint is model.checkpoint]
    chosen = next(sourced for sourced in variants if sourced.name == reference)
    notes = []
    if chosen.is_quantized:
        notes.append(note("reference_quantized", reference))
    if model.checkpoint.dtype == "bfloat16" and chosen in own and chosen.name == "fp16":
        notes.append(note("reference_cast", reference))
    notes += _notes_of_experts(own, model)
    notes += [
        note("weights_unpacked", sourced.name)
        for sourced in own
        if isinstance(sourced.variant, TorchaoVariant) and sourced.variant.bits == 4
    ]
    notes += [found for sourced in own for found in _notes_of_blocks(sourced)]
    for sourced in variants:
        variant = sourced.variant
        adapter = sourced.checkpoint.location.adapter
        if adapter is not None:
            notes.append(
                note(
                    "adapter_merged",
                    sourced.name,
                    adapter=adapter.name,
                    model=model.id,
                    dtype=variant.weights_dtype,
                )
            )
        if variant.kind == "gguf" and variant.method is not None:
            types, dtype = variant.method, variant.weights_dtype
            notes.append(note("gguf_expanded", sourced.name, types=types, dtype=dtype))
        if sourced.checkpoint.contradictions:
            differences = "; ".join(sourced.checkpoint.contradictions)
            notes.append(
                note("gguf_contradicts", sourced.name, model=model.id, differences=differences)
            )
    return notes


def _notes_of_blocks(sourced: SourcedVariant) -> Iterator[Note]:
    """Says what a variant's blocks leave out."""
    block = sourced.variant.block or 1
    linear = [tensor for tensor in sourced.checkpoint.tensors if is_linear(tensor)]
    left = [tensor for tensor in linear if tensor.shape[1] % block]
    if left:
        yield note(
            "layers_left_plain",
            sourced.name,
            layers=len(left),
            all_layers=len(linear),
            block=block,
        )


def _notes_of_experts(own: Sequence[SourcedVariant], model: Model) -> list[Note]:
    """Says where a quantized variant is so in name alone."""
    tensors = model.checkpoint.tensors
    experts, whole = unquantized_experts(tensors), sum(tensor.elements for tensor in tensors)
    quantized = [sourced.name for sourced in own if sourced.is_quantized]
    if not experts or not quantized:
        return []
    share = 100 * experts / whole
    return [note("experts_unquantized", ", ".join(quantized), share_percent=share)]

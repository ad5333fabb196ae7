"""What a reader of figures must know: notes as data, and the words of each kind in one place.

A comparison holds the words, so that whoever reads it needs no table of its own.
"""

from dataclasses import dataclass
from typing import Literal

NoteKind = Literal[
    "prompts_dated",
    "reference_quantized",
    "reference_cast",
    "reference_once_quantized",
    "reference_untold",
    "candidate_once_quantized",
    "audits_unread",
    "experts_unquantized",
    "weights_unpacked",
    "adapter_merged",
    "gguf_expanded",
    "gguf_contradicts",
    "noise_not_finite",
    "identical",
    "identical_expanded",
    "indistinguishable",
    "word_perplexity_too_large",
    "other_windows",
    "likelihood_not_finite",
    "divergence_not_finite",
    "whole_logits",
    "other_vocabulary",
    "unforeseen_size",
    "streamed",
    "other_arithmetic",
    "kernel_emulated",
    "layers_left_plain",
    "expanded_to_run",
    "other_kernel",
    "side_figures_unmeasured",
    "other_prompts",
    "answers_scored_in_part",
    "other_answers_scored",
    "answers_not_finite",
    "no_graph",
    "other_tokens_by_graph",
    "answers_with_errors",
    "events_unread",
    "several_versions",
    "unlike_devices",
]

WORDS: dict[NoteKind, str] = {
    # Of the inputs.
    "prompts_dated": "The chat template writes a date: all prompts say that it is {date}.",
    "reference_quantized": "{variant}, the reference, is quantized itself: the others are held "
    "against that, not against original weights.",
    "reference_cast": "The model is kept in bfloat16, and its reference here is float16: what the "
    "cast changes is in no figure. --reference auto takes bf16.",
    "reference_once_quantized": "{variant}, the reference, was once quantized, though its files do "
    "not say so: the others are held against that, not against original weights. {said}",
    "reference_untold": "{variant}, the reference: whether its weights were once quantized cannot "
    "be told. {said}",
    "candidate_once_quantized": "{variant}: its weights were once quantized, though its files do "
    "not say so. {said}",
    "audits_unread": "What the weights show of quantization before the run is left out: "
    "audits.json {problem}. The command that started the run writes it again.",
    "experts_unquantized": "{variant}: {share_percent:.0f}% of the weights are those of experts, "
    "which stay in 16 bits.",
    "weights_unpacked": "{variant}: torchao holds its 4-bit weights in a byte each on this path; "
    "its size says nothing of a packed format.",
    "adapter_merged": "{variant}: the adapter {adapter} is merged into the weights of {model} in "
    "float32, then cast to {dtype}.",
    "gguf_expanded": "{variant}: the weights of its GGUF file ({types}) are expanded to {dtype}. "
    "llama.cpp also rounds activations to 8 bits, which is in no figure here.",
    "gguf_contradicts": "{variant}: its GGUF file describes another model than {model}: "
    "{differences}. It is measured as the file says: its divergence is not of quantization alone.",
    # Of windows.
    "noise_not_finite": "{variant}: computed in another order, some of its divergence from itself "
    "is not a finite number: no noise floor is given.",
    "identical_expanded": "{variant}: identical, every prediction is equal to {reference}'s: is "
    "{reference} this file, expanded?",
    "identical": "{variant}: every prediction is equal to {reference}'s, the KL of each token is "
    "0: its intervals there are exact.",
    "indistinguishable": "{variant}: its KL from {reference} is no more than rounding makes: "
    "indistinguishable, by the noise floor.",
    "word_perplexity_too_large": "{variant}: its word perplexity is beyond the largest number "
    "({tokens} tokens make {words} words): none is given.",
    "other_windows": "{variant}: {windows} windows against the reference's {reference_windows}: "
    "perplexities are not compared.",
    "likelihood_not_finite": "{variant}: {windows} have a likelihood that is not a finite number: "
    "no perplexity is given.",
    "divergence_not_finite": "{variant}: {windows} have a divergence from the reference that is "
    "not a finite number: none is given.",
    "whole_logits": "{variant}: its output head does not make its logits, so they were taken whole "
    "from the model, which takes more memory and time.",
    "other_vocabulary": "{variant}: its logits are over {tokens} tokens, {reference}'s over "
    "{reference_tokens}: divergence is over the first {common}, which both have; perplexity is "
    "over its own.",
    # Of weights.
    "unforeseen_size": "{variant}: its weights take {measured_bytes} bytes, {expected_bytes} by "
    "arithmetic: some layers may not be held as the variant says.",
    "streamed": "{variant}: its weights lay in the host's memory, from where its layers came to "
    "the device one after the other. What it scores is what a model that is there whole scores; "
    "its times and its memory are not, and none are given. It answered several prompts at once, "
    "padded, which rounds in another way.",
    "other_arithmetic": "{variant}: computed in {dtype}, {reference} in {reference_dtype}: what "
    "that rounds otherwise is in its divergence, too.",
    "kernel_emulated": "{variant}: emulated: nothing here multiplies its format, so what it "
    "quantizes is rounded alike and multiplied by torch. Its size is by arithmetic; while it runs "
    "it takes what plain numbers do; its speed is not its format's own, and is in no plot and no "
    "claim.",
    "layers_left_plain": "{variant}: {layers} of {all_layers} linear weights have rows that its "
    "blocks of {block} do not divide: they are left as they are.",
    "expanded_to_run": "{variant}: its weights are expanded to run: then they take {running_bytes} "
    "bytes, the reference's {reference_bytes}. Its size is that of its files; its speed here is "
    "not its format's own, and is in no plot and no claim.",
    "other_kernel": "{variant}: its format ({method}) has no kernel here: {kernel}.",
    "side_figures_unmeasured": "{variant}: could not be measured: {problems}.",
    # Of answers.
    "other_prompts": "{variant}: {prompts} prompts against the reference's {reference_prompts}: "
    "answers are not compared.",
    "answers_scored_in_part": "{variant}: {scored} of the reference's {answers} answers are "
    "scored: divergence along them is not given.",
    "other_answers_scored": "{variant}: other answers than the reference's are scored: divergence "
    "along them is not given.",
    "answers_not_finite": "{variant}: along the reference's answers some of its divergence is not "
    "a finite number: none is given.",
    "no_graph": "{variant}: no CUDA graph of its decoding, it stays eager: {reason}.",
    "other_tokens_by_graph": "{variant}: {others} of {answers} answers by CUDA graph have other "
    "tokens than the answers that are kept; where two tokens are as likely, rounding decides.",
    "answers_with_errors": "{variant}: {errors} of {answers} answers ended in an error, the first "
    "in: {first}.",
    # Of the run's files.
    "events_unread": "{count} lines of events.jsonl cannot be read: what they told of is missing "
    "from the times of devices.",
    # Of where all that was computed.
    "several_versions": "Shards were computed with several versions of {library}: {versions}.",
    "unlike_devices": "The {stage} were timed on unlike devices ({devices}): differences of speed "
    "are theirs as well.",
}


@dataclass(frozen=True)
class Note:
    """Something that a reader must know.

    Attributes:
        variant: of which it is; several where it is of several.
        values: what else its words name.
    """

    kind: NoteKind
    variant: str | None
    values: dict[str, str | int | float]

    def __str__(self) -> str:
        return WORDS[self.kind].format(variant=self.variant, **self.values)


def note(kind: NoteKind, variant: str | None = None, **values: str | int | float) -> Note:
    """A note of a kind.

    Args:
        variant: of which it is, where it is of one.
        values: by the names that the kind's words have.
    """
    return Note(kind, variant, values)

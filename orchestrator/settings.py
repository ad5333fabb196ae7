"""What a user can say: one model for flags, configuration files and defaults."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, field_validator

from orchestrator.console import LogFormat
from orchestrator.contract.names import LONGEST_NAME, NAME_PATTERN, Name
from orchestrator.contract.packages import METHODS
from orchestrator.contract.shards import DecodingName, DeviceChoice
from orchestrator.contract.variant_names import VariantWords, read_words
from orchestrator.contract.variants import VARIANTS, DtypeName
from orchestrator.errors import BadInputError
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.language import Gate
from orchestrator.gates.uses import check_uses, uses_text
from orchestrator.gpus_wanted import SaidGpus
from orchestrator.help import HOLDS, KEPT, MEASURED, RUNS, setting
from orchestrator.locations import Location
from orchestrator.suggestions import did_you_mean

ProtocolName = Literal["concat", "strided", "llamacpp", "pages", "rows"]
TrackerName = Literal["wandb", "mlflow", "trackio"]
WindowChoice = Literal["spread", "first"]
# A place, or `auto`; of `devices` also how many.
_PLACE = re.compile(r"auto|device|devices(:[1-9][0-9]{0,3})?|stream")
Count = Annotated[int, Field(ge=1)]

# The settings that say what is measured: naming any of them replaces the embedded demo sweep.
INPUT_SETTINGS = frozenset({"model", "dataset", "prompts"})


class Settings(GateSettings):
    """The settings of a sweep; every field is a flag and a key of a YAML file."""

    cluster: str = setting(
        "local",
        RUNS,
        "local, none (in this process, without Ray), auto (join the running one) or HOST:PORT",
        "WHERE",
    )
    model: str = setting("demo", MEASURED, "hub id, folder, or 'demo' (embedded)")
    revision: str | None = setting(None, MEASURED, "branch, tag or commit of a hub model", "NAME")
    variants: tuple[str, ...] = setting(
        ("fp16", "int8", "nf4"),
        MEASURED,
        f"comma-separated, of: {', '.join(VARIANTS)}, each with +noise=SIGMA if weights are to be "
        "moved before; or NAME=CHECKPOINT: a folder, hub id (@revision) or GGUF file of its own, "
        "quantized or not",
    )
    reference: str | None = setting(
        None,
        MEASURED,
        "variant the others are held against, or 'auto': bf16 for a model that is "
        "kept so, else fp16 (default: fp16, else the first)",
        "VARIANT",
    )
    dataset: str = setting(
        lambda before: "demo" if before.get("model") == "demo" else "wikitext2",
        MEASURED,
        "wikitext2 (from the hub), demo (embedded), or a file or folder of text, JSON, "
        "JSON lines, CSV, TSV, Parquet or Arrow (default: demo for the demo model, else wikitext2)",
    )
    text_column: str = setting(
        "text", MEASURED, "the column that holds the text of such a table", "NAME"
    )
    protocol: ProtocolName = setting("concat", MEASURED, "how text becomes scored windows")
    window_length: Annotated[int, Field(ge=2)] | None = setting(
        None, MEASURED, "tokens (default: 2048, 512 for llamacpp, or the model's maximum if less)"
    )
    stride: Count | None = setting(
        None, MEASURED, "tokens between strided windows (default: half the length)"
    )
    max_windows: Annotated[int, Field(ge=0)] | None = setting(
        None, MEASURED, "score only N windows (default: all)"
    )
    window_choice: WindowChoice = setting(
        "spread",
        MEASURED,
        "which N: spread evenly over the text, or its first, as llama.cpp's --chunks takes them",
    )
    until_decided: bool = setting(
        False,
        MEASURED,
        "score 8 windows, then 16, 32, 64 and all, spread each time, until every gate over windows "
        "passes or fails; all intervals are of 99% then",
    )
    prompts: str = setting("suite", MEASURED, "suite (embedded, 96 prompts) or a .jsonl file")
    max_prompts: Annotated[int, Field(ge=0)] | None = setting(
        None, MEASURED, "answer only the first N prompts"
    )
    max_new_tokens: Count = setting(100, MEASURED, "longest answer, in tokens")
    decoding: tuple[DecodingName, ...] | None = setting(
        None,
        MEASURED,
        "comma-separated: eager (transformers' generate), graph (its step as a CUDA "
        "graph); the first one's answers are kept (default: eager, on CUDA both)",
    )
    batch_sizes: tuple[Count, ...] = setting(
        (), MEASURED, "comma-separated: decode so many prompts at once, for the throughput"
    )
    repeats: Count = setting(1, MEASURED, "times each prompt is answered each way, for its speed")
    device: DeviceChoice = setting(
        "auto",
        RUNS,
        "where the models run: auto takes GPUs where there are any, for models of 20 "
        "million parameters or more",
    )
    compute_dtype: DtypeName | None = setting(
        None, RUNS, "arithmetic (default: float32 on a CPU, the variant's on CUDA)"
    )
    placement: str | dict[str, str] = setting(
        "auto",
        RUNS,
        "where each variant's weights are: device; devices (their layers over as few GPUs of a "
        "machine as hold them, or devices:N); stream (in the host's memory, layer by layer to the "
        "device: plain weights alone, and untimed); auto (the first of these that holds it); or by "
        "variant, such as fp16=stream,nf4=device",
        "PLACE",
    )
    batch_tokens: Literal["auto"] | Count = setting(
        "auto",
        RUNS,
        "windows of one length are scored at once up to so many tokens, but for "
        "LLM.int8 and others whose rounding depends on their neighbours (1: each by itself; auto: "
        "the most of 8192, 4096 and 2048 with which all variants fit their devices)",
        "N|auto",
    )
    shard_size: Count = setting(8, RUNS, "windows, or answers to score, a shard")
    wait_for_gpus: SaidGpus | None = setting(
        None,
        RUNS,
        "wait until a joined cluster has so many GPUs free, at most 30 minutes or as many as are "
        "said, and ask it for them where it scales",
        "N[:MINUTES]",
    )
    replicas: Count | None = setting(
        None, RUNS, "most actors a variant may have at once (default: as devices allow)"
    )
    shard_timeout: Annotated[float, Field(gt=0)] | None = setting(
        None,
        RUNS,
        "after so many seconds an actor that is at one shard, or loads, is taken for hanging, and "
        "ended (default: by what such shards took, 600 or more)",
        "SECONDS",
    )
    reference_bytes: Annotated[ByteSize, Field(ge=1)] | None = setting(
        None,
        RUNS,
        "most that the reference's hidden states may take until the other variants "
        "have used them, such as 4GiB (default: half of Ray's object store)",
    )
    require_integrity: bool = setting(
        False,
        HOLDS,
        "refuse, before anything is scored, a reference whose weights were once quantized and do "
        "not say so, or of which that cannot be told",
    )
    uses: str | None = setting(
        None,
        HOLDS,
        "YAML file of what a model is used for, and when a quantization is a risk there (default: "
        "six applications)",
        "FILE",
    )
    results: Location = setting("results", KEPT, "folder or URL that holds the runs", "PLACE")
    run_id: Name | None = setting(
        None, KEPT, "name of the run's folder (default: from the settings' content)", "NAME"
    )
    tracker: TrackerName | None = setting(
        None,
        KEPT,
        "where the finished run's figures are sent, too: wandb, mlflow or trackio, as its own "
        "environment variables say",
    )
    log_format: LogFormat = setting(
        "text",
        KEPT,
        "how messages are told: as text, or each as an object of JSON, and each event of the run "
        "with them",
    )
    verbose: bool = setting(False, KEPT, "show Ray's and the libraries' own messages")

    @field_validator("batch_tokens", mode="before")
    @classmethod
    def _a_number_or_auto(cls, said: object) -> object:
        if said != "auto" and not re.fullmatch(r"0*[1-9][0-9]*", str(said)):
            raise ValueError(f"name a number of tokens, at least 1, or auto (got {said!r})")
        return said

    @field_validator("placement")
    @classmethod
    def _known_places(cls, said: str | dict[str, str]) -> str | dict[str, str]:
        for place in said.values() if isinstance(said, dict) else (said,):
            if not _PLACE.fullmatch(place):
                raise ValueError(f"name auto, device, devices, devices:N or stream (got {place!r})")
        return said

    @field_validator("variants")
    @classmethod
    def _known_variants(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError(f"name at least one of {', '.join(VARIANTS)}")
        choices = [read_words(name) for name in names]
        for choice in choices:
            if choice.source is None and choice.base not in VARIANTS:
                raise ValueError(_unknown_variant(choice.base))
            if choice.source is not None and choice.base in (*VARIANTS, "auto"):
                raise ValueError(f"'{choice.base}' has a meaning already; choose another name")
            if not re.fullmatch(NAME_PATTERN, choice.base) or choice.source == "":
                raise ValueError(
                    f"'{choice.base}={choice.source}' is no NAME=CHECKPOINT with a name of "
                    f"at most {LONGEST_NAME} letters, digits, dots, dashes and underscores"
                )
        if len({choice.name for choice in choices}) < len(choices):
            raise ValueError("a variant is named twice; name each once")
        return tuple(choice.text for choice in choices)

    @field_validator("reference")
    @classmethod
    def _in_its_one_form(cls, reference: str | None) -> str | None:
        return None if reference is None else read_words(reference).name

    @field_validator("decoding")
    @classmethod
    def _each_way_once(
        cls, names: tuple[DecodingName, ...] | None
    ) -> tuple[DecodingName, ...] | None:
        if names is not None and not names:
            raise ValueError("name at least one of eager, graph")
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a way is named twice; name each once")
        return names

    @field_validator("batch_sizes")
    @classmethod
    def _each_size_once(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(sizes)) < len(sizes):
            raise ValueError("a batch size is named twice; name each once")
        return sizes

    def gates_over_windows(self) -> tuple[Gate, ...]:
        """The gates that are given, of those that more windows decide.

        Raises:
            BadInputError: one of them cannot be read.
        """
        gates = self.chosen().gates if self.asked else ()
        return tuple(gate for gate in gates if gate.over == "windows")

    def check(
        self, variants: Collection[str], reference: str, categories: Iterable[str] | None
    ) -> None:
        """Refuses gates of what a run does not have, as `GateSettings.check`, and looks for none.

        Raises:
            BadInputError: also where nothing would end a run that goes on until gates are decided.
        """
        super().check(variants, reference, categories)
        if self.uses is not None and categories is not None:
            check_uses(self.uses, categories)
        if not self.until_decided:
            return
        if not self.gates_over_windows():
            raise BadInputError(
                "--until-decided",
                "no gate is over windows, so that none would end it; name one, such as --gate "
                "'kl.mean <= 0.05'",
            )
        if self.window_choice == "first":
            raise BadInputError(
                "--until-decided", "each look is spread over the text; leave --window-choice out"
            )

    def self_contained(self) -> Self:
        """These settings with the content of files for their names: they may be others later.

        Raises:
            BadInputError: one cannot be read.
        """
        made = super().self_contained()
        # A line of JSON, where a file was read already.
        if made.uses is None or made.uses.lstrip().startswith("["):
            return made
        return made.model_copy(update={"uses": uses_text(Path(made.uses).expanduser())})

    @property
    def choices(self) -> tuple[VariantWords, ...]:
        """The variants, each with the checkpoint that it brings and what is done to it."""
        return tuple(map(read_words, self.variants))

    @property
    def reference_variant(self) -> str:
        """The variant that the others are held against; `auto` where the model decides."""
        if self.reference is not None:
            return self.reference
        names = [choice.name for choice in self.choices]
        return "fp16" if "fp16" in names else names[0]


def _unknown_variant(name: str) -> str:
    """What is said of a name that no variant made here has."""
    method = name.lower()
    if method in METHODS:
        example = "FILE.gguf" if method == "gguf" else f"ORG/NAME-{name.upper()}"
        return f"'{name}' is a format of checkpoints; name one that has it: {method}={example}"
    return (
        f"unknown variant '{name}'; known are {', '.join(VARIANTS)}, and NAME=CHECKPOINT is one of "
        'your own, in double quotes where it has a comma (fp16,"mine=./a,b")'
        f"{did_you_mean(name, VARIANTS)}"
    )

"""The command `audit`: whether a model's weights were once quantized, read from its files alone."""

from collections import Counter
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from orchestrator.console import messages_console, plain_text, results_console, say
from orchestrator.errors import BadInputError, CannotWriteError
from orchestrator.files import write_atomically
from orchestrator.integrity.audit import audit_files
from orchestrator.integrity.files import AuditedFiles, find_files
from orchestrator.integrity.outcome import Audit, TensorOutcome
from orchestrator.integrity.verdicts import exit_status, kind_of

_SETTING = "MODEL"


def audit_model(
    model: str, *, revision: str | None, everything: bool, json_file: Path | None
) -> int:
    """Looks at the weights of a model, prints what they show, and writes it as JSON if asked.

    Args:
        model: `demo`, a folder, a hub id or a GGUF file.
        everything: whether all weights are read, or a sample of each tensor.

    Returns:
        GATE_FAILED where weights lie on a grid that the configuration does not declare, FAILED
        where it cannot be told.

    Raises:
        BadInputError: there is no such model, or its files are damaged.
        CannotWriteError: the JSON file cannot be written.
    """
    if json_file is not None and json_file.is_dir():
        raise BadInputError("--json", f"{json_file} is a folder; name a file")
    audit = _watched(find_files(model, revision, _SETTING), everything)
    _print(audit)
    if json_file is not None:
        try:
            write_atomically(json_file, audit.model_dump_json(indent=2).encode() + b"\n")
        except OSError as error:
            raise CannotWriteError(str(json_file), error) from None
    return exit_status(audit)


def _watched(files: AuditedFiles, everything: bool) -> Audit:
    """The audit, with a bar on a terminal."""
    console = messages_console()
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tensors"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("audit", total=len(files.tensors))
        return audit_files(files, everything=everything, done=lambda: bar.advance(task))


def _print(audit: Audit) -> None:
    console = results_console()
    say(console, audit.said)
    kinds = Counter(map(_row, audit.tensors))
    if kinds:
        read = "all of their weights" if audit.is_complete else "a sample of their weights"
        table = Table(title=plain_text(f"{audit.model}: tensors by what {read} show"))
        for column in ("tensors", "of", "kept as", "weights"):
            table.add_column(column, justify="right" if column == "tensors" else "left")
        for row, count in kinds.most_common():
            table.add_row(str(count), *map(plain_text, row))
        console.print(table)
    for finding in audit.findings:
        say(console, f"Note: {finding}")


def _row(tensor: TensorOutcome) -> tuple[str, str, str]:
    """What tensors have in common that are one row: role, dtype, what they show."""
    # BF16 kept as FP16 or FP32 shows in what its weights need.
    dtype = tensor.dtype
    if tensor.holds is not None and tensor.holds != _LONG_NAMES.get(dtype):
        dtype = f"{dtype}, all of them {tensor.holds}"
    match tensor.verdict:
        case "on a grid":
            shown = kind_of(tensor)
        case "unclear":
            shown = f"unclear: {tensor.share or 0:.0%} of blocks on a grid"
        case "quantized":
            shown = "quantized, as the file says"
        case "not examined":
            shown = f"not examined: {tensor.reason}"
        case "plain":
            shown = "no trace of quantization"
    return tensor.role, dtype, shown


_LONG_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float32"}

"""The commands `audit` and `manifest`: what a model's files show and hold, read from them alone."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from orchestrator.console import (
    messages_console,
    plain_text,
    quiet_libraries,
    results_console,
    say,
)
from orchestrator.contract.variant_errors import first_line
from orchestrator.contract.variants import READ_AS
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.files import check_no_folder, write_for_user
from orchestrator.integrity.audit import audit_files, unreadable
from orchestrator.integrity.contents import compared_by_content
from orchestrator.integrity.files import AuditedFiles, find_files
from orchestrator.integrity.inventory import Inventory, differences, take_inventory
from orchestrator.integrity.outcome import Audit, HeldAgainst, TensorOutcome
from orchestrator.integrity.requantized import requantize, untried_modules
from orchestrator.integrity.signatures import is_signed, signature_path, signer_of
from orchestrator.integrity.verdicts import exit_status, kind_of
from orchestrator.json_files import parse_json, read_bounded

_SETTING = "MODEL"


def audit_model(
    model: str,
    *,
    revision: str | None,
    everything: bool,
    json_file: Path | None,
    manifest: Path | None,
    public_key: Path | None,
    reference: str | None,
) -> int:
    """Looks at the weights of a model, prints what they show, and writes it as JSON if asked.

    Args:
        model: `demo`, a folder, a hub id or a GGUF file.
        everything: whether all weights are read, or a sample of each tensor.
        manifest, reference: what every tensor and file is held against; one of both.
        public_key: of whoever signed the manifest.

    Returns:
        GATE_FAILED where weights lie on a grid that the configuration does not declare, or where
        something differs; FAILED where it cannot be told.

    Raises:
        BadInputError: there is no such model, manifest or key, or a file is damaged.
        CannotWriteError: the JSON file cannot be written.
    """
    check_no_folder(json_file, "--json")
    if manifest is not None and reference is not None:
        raise BadInputError("--manifest", "and --reference are two originals; name one")
    if public_key is not None and manifest is None:
        raise BadInputError("--public-key", "is of a manifest; name one by --manifest")
    files = find_files(model, revision, _SETTING)
    held, original = None, None
    if manifest is not None:
        held = against_manifest(files, manifest, public_key)
    elif reference is not None:
        original = find_files(reference, None, "--reference")
        held = against_reference(files, original)
    with _bar("audit", files) as done:
        audit = audit_files(files, everything=everything, done=done)
    if held is not None and original is not None:
        held = how_made(held, files, original, audit)
    audit = audit.model_copy(update={"held_against": held})
    _print(audit)
    if json_file is not None:
        write_for_user(json_file, audit.model_dump_json(indent=2).encode() + b"\n")
    return exit_status(audit)


def write_manifest(model: str, *, revision: str | None, path: Path, key: Path | None) -> int:
    """Writes what a model's files hold, by hash, and signs it if a key is named.

    Raises:
        BadInputError: there is no such model or key, or a file is damaged.
        CannotWriteError: the manifest cannot be written.
    """
    check_no_folder(path, "--to")
    signer = None if key is None else signer_of(key, "--key")
    files = find_files(model, revision, _SETTING)
    content = inventory_of(files, leaving=path).model_dump_json(indent=2).encode() + b"\n"
    write_for_user(path, content)
    console = results_console()
    say(console, f"Manifest: {path}")
    if signer is None:
        # Of an older manifest of this name: it would be taken for this one's.
        signature_path(path).unlink(missing_ok=True)
    else:
        write_for_user(signature_path(path), signer(content))
        say(console, f"Signature: {signature_path(path)}")
    return ExitStatus.DONE


def against_manifest(files: AuditedFiles, path: Path, public_key: Path | None) -> HeldAgainst:
    """Holds a model against its manifest.

    Raises:
        BadInputError: there is no such manifest or key, or a file is damaged.
    """
    setting = "--manifest"
    try:
        content = read_bounded(path)
        expected = Inventory.model_validate(parse_json(content))
    except (OSError, ValueError) as error:
        raise BadInputError(
            setting, f"{path} is no manifest ({first_line(error)}); `manifest MODEL` writes one"
        ) from None
    signature: Literal["valid", "not of this key"] | None = None
    if public_key is not None:
        signed = is_signed(content, signature_path(path), public_key, "--public-key")
        signature = "valid" if signed else "not of this key"
    found = inventory_of(files, leaving=path)
    return held_against("manifest", str(path), signature, expected, found)


def against_reference(files: AuditedFiles, reference: AuditedFiles) -> HeldAgainst:
    """Holds a model against another; raises as `against_manifest` does."""
    expected, found = inventory_of(reference), inventory_of(files)
    held = held_against("reference", reference.name, None, expected, found)
    by_content = compared_by_content(held.differences, reference, files)
    return held.model_copy(update={"differences": tuple(by_content)})


def how_made(
    held: HeldAgainst, files: AuditedFiles, original: AuditedFiles, audit: Audit
) -> HeldAgainst:
    """The same, with how the tensors that differ were made of the original's.

    Raises:
        BadInputError: a file cannot be read.
    """
    changed = [
        each.name for each in held.differences if (each.of, each.change) == ("tensor", "changed")
    ]
    if not changed:
        return held
    try:
        with quiet_libraries(), _bar("quantize the reference", files) as done:
            found = requantize(
                files, original, changed, audit, everything=audit.is_complete, done=done
            )
    except OSError as error:
        raise unreadable(error) from None
    return held.model_copy(
        update={"requantized": tuple(found), "untried": tuple(untried_modules())}
    )


def held_against(
    kind: Literal["manifest", "reference"],
    name: str,
    signature: Literal["valid", "not of this key"] | None,
    expected: Inventory,
    found: Inventory,
) -> HeldAgainst:
    """What differs between two inventories."""
    both = expected.tensors.items() & found.tensors.items()
    return HeldAgainst(
        kind=kind,
        name=name,
        signature=signature,
        equal_tensors=len(both),
        differences=tuple(differences(expected, found)),
    )


def inventory_of(files: AuditedFiles, leaving: Path | None = None) -> Inventory:
    """A model's inventory, with a bar on a terminal.

    Args:
        leaving: a manifest, which may lie in the model's folder, as may its signature.

    Raises:
        BadInputError: a file cannot be read.
    """
    left = () if leaving is None else (leaving, signature_path(leaving))
    try:
        with _bar("hash", files) as done:
            return take_inventory(files, leaving=left, done=done)
    except OSError as error:
        raise unreadable(error) from None


@contextmanager
def _bar(what: str, files: AuditedFiles) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, and what is called after each tensor."""
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
        task = bar.add_task(what, total=len(files.tensors))
        yield lambda: bar.advance(task)


def _print(audit: Audit) -> None:
    console = results_console()
    say(console, audit.said)
    kinds = Counter(map(_row, audit.tensors))
    if kinds:
        shown = "all their weights show" if audit.is_complete else "a sample of their weights shows"
        table = Table(title=plain_text(f"{audit.model}: tensors, by what {shown}"))
        for column in ("tensors", "of", "kept as", "weights"):
            table.add_column(column, justify="right" if column == "tensors" else "left")
        for row, count in kinds.most_common():
            table.add_row(str(count), *map(plain_text, row))
        console.print(table)
    for finding in (*audit.findings, *audit.code):
        say(console, f"Note: {finding}")
    if audit.held_against is not None:
        _print_held(audit.held_against, console)


def _print_held(held: HeldAgainst, console: Console) -> None:
    signed = {"valid": ", signed by this key", "not of this key": ""}.get(held.signature or "", "")
    if held.signature == "not of this key":
        say(console, f"The signature of {held.name} is not of this key.")
    if not held.differences:
        say(console, f"As {held.name} says{signed}: {held.equal_tensors} tensors, and every file.")
        return
    say(console, f"Not as {held.name} says{signed}: {held.equal_tensors} tensors are the same, and")
    exact = Counter(each.way for each in held.requantized if each.is_exact)
    for way, count in exact.most_common():
        tensors = "1 tensor is" if count == 1 else f"{count} tensors are"
        say(console, f"  {tensors} the reference's, quantized as {way}, weight for weight; that is")
    made = {each.name: each for each in held.requantized}
    for difference in held.differences:
        how = made.get(difference.name) if difference.of == "tensor" else None
        say(console, f"  {difference}{'' if how is None else f': {how}'}")
    if held.untried:
        modules = ", ".join(held.untried)
        say(console, f"Note: ways to quantize by {modules} were not tried: not installed")


def _row(tensor: TensorOutcome) -> tuple[str, str, str]:
    """What tensors have in common that are one row: role, dtype, what they show."""
    # BF16 kept as FP16 or FP32 shows in what its weights need.
    dtype = tensor.dtype
    if tensor.holds is not None and tensor.holds != READ_AS.get(dtype):
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

"""The command `calibration`: what a calibration set is like, and what speaks against it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from orchestrator.calibration.findings import (
    findings_of,
    findings_of_recipe,
    held_in_words,
    thresholds_of,
)
from orchestrator.calibration.measure import (
    Evaluation,
    Measured,
    divergence_bits,
    evaluation_counts,
    languages,
    measure,
    near_duplicates_share,
    short_rows,
)
from orchestrator.calibration.outcome import CalibrationSet, Lengths, Recipe
from orchestrator.calibration.recipe import read_recipe
from orchestrator.calibration.rows import Row, read_rows
from orchestrator.console import messages_console, plain_text, results_console, say
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.files import check_no_folder, write_for_user
from orchestrator.inputs.checkpoints import embedding_rows
from orchestrator.inputs.sources import Inputs, read_inputs
from orchestrator.inputs.tokenizer import ModelTokenizer
from orchestrator.settings import Settings


def check_calibration(
    file: Path,
    settings: Settings,
    *,
    column: str,
    checkpoint: str | None,
    thresholds: Path | None,
    json_file: Path | None,
) -> int:
    """Holds a calibration set against what a model is evaluated with.

    Args:
        settings: the model, and the data set and prompts that it is evaluated with.
        column: of the set's text, where it is a table.
        checkpoint: a quantized one, whose recipe is told.
        thresholds: a file of them; those of the package where None.

    Returns:
        GATE_FAILED where something speaks against the set.

    Raises:
        BadInputError: something is not there, or cannot be read.
        CannotWriteError: the JSON file cannot be written.
    """
    check_no_folder(json_file, "--json")
    if not file.is_file():
        raise BadInputError("FILE", f"no file {file}; name a calibration set")
    limits = thresholds_of(thresholds)
    recipe = None if checkpoint is None else read_recipe(checkpoint)
    inputs = read_inputs(settings)
    evaluation = _evaluation(inputs)
    with _counted(read_rows(file, column)) as rows:
        found = measure(rows, ModelTokenizer(inputs.model), evaluation)
    if not found.lengths:
        raise BadInputError("FILE", f"{file} has no row with text; name another")
    told = _told(file, found, evaluation, recipe)
    speaks_against = (*findings_of(_numbers(told), limits), *findings_of_recipe(recipe))
    told = told.model_copy(update={"findings": speaks_against})
    _print(told)
    if json_file is not None:
        write_for_user(json_file, told.model_dump_json(indent=2).encode() + b"\n")
    return ExitStatus.GATE_FAILED if told.findings else ExitStatus.DONE


def _evaluation(inputs: Inputs) -> Evaluation:
    texts = {prompt.id: prompt.text for prompt in inputs.suite.prompts[: len(inputs.prompts)]}
    return Evaluation(
        rows=[row for row in inputs.dataset.rows if row.strip()],
        windows=[np.asarray(window.target_ids, np.int64) for window in inputs.windows],
        prompts=texts,
        vocabulary=embedding_rows(inputs.model.checkpoint.tensors),
    )


def _told(
    file: Path, found: Measured, evaluation: Evaluation, recipe: Recipe | None
) -> CalibrationSet:
    rows, expected = len(found.lengths), evaluation_counts(evaluation)
    of_set, missing = languages(found, evaluation)
    return CalibrationSet(
        file=str(file),
        rows=rows,
        tokens=sum(found.lengths),
        row_tokens=Lengths(
            least=min(found.lengths),
            median=float(np.median(found.lengths)),
            p95=float(np.percentile(found.lengths, 95)),
            most=max(found.lengths),
        ),
        short_rows_share=short_rows(found) / rows,
        categories=dict(found.categories.most_common()),
        languages=of_set,
        languages_missing_share=None if of_set is None else missing,
        looked_at_rows=len(found.sampled),
        duplicate_rows_share=found.duplicates / rows,
        near_duplicate_rows_share=near_duplicates_share(found),
        vocabulary=evaluation.vocabulary,
        vocabulary_seen_share=int((found.counts > 0).sum()) / max(1, evaluation.vocabulary),
        evaluation_tokens_covered_share=float(
            expected[found.counts > 0].sum() / max(1, expected.sum())
        ),
        divergence_bits=divergence_bits(found.counts, expected),
        windows=len(evaluation.windows),
        windows_held=tuple(found.windows_held),
        windows_held_share=len(found.windows_held) / max(1, len(evaluation.windows)),
        prompts=len(evaluation.prompts),
        prompts_held=tuple(found.prompts_held),
        prompts_held_share=len(found.prompts_held) / max(1, len(evaluation.prompts)),
        recipe=recipe,
        findings=(),
    )


def _numbers(told: CalibrationSet) -> dict[str, float | None]:
    return {
        name: value
        for name, value in told.model_dump().items()
        if value is None or isinstance(value, int | float)
    }


@contextmanager
def _counted(rows: Iterable[Row]) -> Iterator[Iterator[Row]]:
    """The rows, counted on a terminal as they are read."""
    console = messages_console()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} rows"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

    def each(task: object) -> Iterator[Row]:
        for row in rows:
            yield row
            bar.advance(task)  # type: ignore[arg-type]

    with bar:
        yield each(bar.add_task("read", total=None))


def _print(told: CalibrationSet) -> None:
    console = results_console()
    table = Table(title=plain_text(told.file), show_header=False)
    for name, value in _lines(told):
        table.add_row(name, plain_text(value))
    console.print(table)
    if told.recipe is not None:
        for source, values in told.recipe.values.items():
            said = ", ".join(f"{name} {value}" for name, value in values.items()) or "nothing"
            say(console, f"Recipe of {told.recipe.checkpoint}, {source}: {said}")
    for line in held_in_words(told):
        say(console, f"Note: {line}")
    if told.languages is None or told.near_duplicate_rows_share is None:
        say(
            console,
            "Note: languages and near duplicates are told by py3langid and datasketch: "
            "pip install py3langid datasketch",
        )
    for finding in told.findings:
        say(console, f"Finding: {finding.said}")
    if not told.findings:
        say(console, "Clean: nothing speaks against it.")


def _lines(told: CalibrationSet) -> Iterator[tuple[str, str]]:
    lengths = told.row_tokens
    yield "rows", str(told.rows)
    yield "tokens", str(told.tokens)
    yield (
        "tokens of a row",
        f"{lengths.least} to {lengths.most}, median {lengths.median:g}, 95% at most "
        f"{lengths.p95:g}",
    )
    yield "short rows", _share(told.short_rows_share)
    if told.categories:
        yield "categories", ", ".join(f"{name} {n}" for name, n in told.categories.items())
    if told.languages is not None:
        most = list(told.languages.items())[:5]
        yield "languages", ", ".join(f"{name} {_share(share)}" for name, share in most)
    yield "duplicates", _share(told.duplicate_rows_share)
    if told.near_duplicate_rows_share is not None:
        looked = f" of {told.looked_at_rows} rows looked at"
        yield "near duplicates", _share(told.near_duplicate_rows_share) + looked
    yield "vocabulary", f"{_share(told.vocabulary_seen_share)} of {told.vocabulary} tokens"
    yield "evaluation's tokens covered", _share(told.evaluation_tokens_covered_share)
    yield "divergence from the evaluation", f"{told.divergence_bits:.3g} bits"
    yield "windows held", f"{len(told.windows_held)} of {told.windows}"
    yield "prompts held", f"{len(told.prompts_held)} of {told.prompts}"


def _share(share: float) -> str:
    return f"{100 * share:.3g}%"

"""The commands, each a few lines over the modules below."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    CliSubCommand,
    SettingsConfigDict,
    SettingsError,
    get_subcommand,
)

from orchestrator.console import messages_console, say, tell_as
from orchestrator.contract.shards import DeviceChoice
from orchestrator.contract.version import VERSION
from orchestrator.errors import BadInputError, ExitStatus, OrchestratorError, remedy_for
from orchestrator.gates.chosen import OLD_NAME, GateSettings
from orchestrator.help import KEPT, flag_name, make_readable, setting
from orchestrator.locations import Location
from orchestrator.process import INSTALLED, process_began, program
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings, settings_error, sweep_names
from orchestrator.suggestions import did_you_mean

# Flags that stand before any command.
_OF_ALL = ("-h", "--help", "--version")


class _SettingsCommand(Settings):
    """The settings as flags, and the two sources that they can be layered over."""

    config: Path | None = setting(None, KEPT, "YAML file of these settings", "FILE")
    sweep: str | None = setting(
        None, KEPT, f"embedded settings, of: {', '.join(sweep_names())}", "NAME"
    )

    def resolved(self) -> Settings:
        """Layers the flags that were said over the sweep and the file."""
        given = self.model_dump(exclude_unset=True, exclude={"config", "sweep"})
        return resolve_settings(given, sweep=self.sweep, config=self.config)


class Run(_SettingsCommand):
    """Run a sweep, or resume it: finished shards are kept."""


class Plan(_SettingsCommand):
    """Say what a sweep would run, where and how big, and run nothing."""


class _Results(BaseModel):
    results: Location = setting("results", KEPT, "folder or URL that holds the runs", "PLACE")


class _ExistingRun(_Results):
    run: CliPositionalArg[str] = Field(description="a run's id, its folder or its URL")


class Report(_Results):
    """Write a run's report again from its shards; several runs: show them side by side."""

    run: CliPositionalArg[list[str]] = Field(description="ids of runs, or their folders")


class History(_Results, GateSettings):
    """Show the runs of a results folder, and each model over time.

    With gates: exit status 3 where the newest run of a model fails one, or cannot be judged.
    """

    model: str | None = Field(None, description="of this model alone, by its id or folder")
    alarm: bool = Field(
        False,
        description="exit status 3 where a figure of the newest run has changed since the run "
        "before it, beyond what chance and rounding do",
    )


class Gate(_ExistingRun, GateSettings):
    """Hold a finished run against gates: exit status 3 where one fails.

    It asks, and changes nothing: the run's report goes on saying how it did by its own gates.
    """

    write: bool = Field(False, description="write the run's report again, by these gates")


class Status(_ExistingRun):
    """Say how far a run is."""


class Export(_ExistingRun):
    """Write a run's pictures (SVG, PDF), tables (CSV, LaTeX) and model cards into a folder."""

    to: Path = Field(description="the folder; files of these names in it are replaced")


class Verify(_ExistingRun):
    """Compute some of a run's windows and answers again here; write nothing.

    Exit status 1 where a token's likelihood or KL divergence differs. What the run was of is looked
    for where the run had it, unless another place is named; it must be the same to the last byte.
    """

    sample: int = Field(8, ge=1, description="how many finished shards, by variants in turn")
    seed: int = Field(0, description="draws them")
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="the largest difference that passes, in nats (default: 0.0001, and another "
        "kind of device or dtype than the run's is refused)",
    )
    model: str | None = Field(None, description="where the run's model is")
    dataset: str | None = Field(None, description="where its data set is")
    prompts: str | None = Field(None, description="where its prompts are")
    variants: tuple[str, ...] | None = Field(
        None, description="all of its variants, where one is NAME=CHECKPOINT"
    )
    device: DeviceChoice | None = Field(None, description="where the models run")

    def here(self) -> dict[str, Any]:
        """The settings that say where things are on this machine, as far as they were said."""
        names = {"model", "dataset", "prompts", "variants", "device"}
        return self.model_dump(include=names, exclude_none=True)


class Audit(BaseModel):
    """Say whether a model's weights were once quantized, from its files alone.

    No model is built, and no code of its own is run. Exit status 3 where weights lie on a grid that
    the configuration does not declare, 1 where it cannot be told.
    """

    model: CliPositionalArg[str] = Field(
        description="'demo', a folder of safetensors, a hub id, or a GGUF file"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    all: bool = Field(False, description="read every weight, not a sample of each tensor")
    json_file: Path | None = Field(
        None,
        alias="json",
        description="write what is said into a file, with every tensor",
    )
    manifest: Path | None = Field(
        None, description="hold every tensor and file against what `manifest` wrote of the original"
    )
    public_key: Path | None = Field(
        None, description="Ed25519 key in PEM that the manifest's signature must be of"
    )
    reference: str | None = Field(
        None, description="hold every tensor and file against this model's"
    )


class Manifest(BaseModel):
    """Write what a model's files hold, by hash: every tensor, and every other file."""

    model: CliPositionalArg[str] = Field(
        description="'demo', a folder of safetensors, a hub id, or a GGUF file"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    to: Path = Field(Path("manifest.json"), description="the file that is written")
    key: Path | None = Field(
        None, description="Ed25519 private key in PEM: the signature goes into FILE.sig"
    )


class Calibration(BaseModel):
    """Say what a calibration set is like, beside what the model is evaluated with.

    Exit status 3 where something speaks against it: too little, twice the same, another kind of
    text, or windows and prompts of the evaluation themselves.
    """

    file: CliPositionalArg[Path] = Field(
        description="rows of text or chats: JSON lines, Parquet, text, or another table"
    )
    model: str = Field("demo", description="hub id, folder, GGUF file, or 'demo'")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dataset: str | None = Field(None, description="what it is evaluated with, as of `run`")
    prompts: str | None = Field(None, description="likewise")
    text_column: str = Field("text", description="the column of FILE that holds the text")
    checkpoint: str | None = Field(
        None, description="a quantized checkpoint: how its files say that it was made"
    )
    thresholds: Path | None = Field(
        None, description="YAML file of thresholds (default: those of the package)"
    )
    json_file: Path | None = Field(None, alias="json", description="write what is said into a file")

    def evaluated(self) -> Settings:
        """The settings of what the model is evaluated with."""
        names = {"model", "revision", "dataset", "prompts"}
        given = self.model_dump(include=names, exclude_none=True)
        return resolve_settings({**given, "variants": ["fp16"]})


class Commands(BaseSettings):
    """Benchmark quantized causal language models: perplexity, speed and memory on the same inputs.

    Without a command, `run` is meant: `python -m orchestrator --cluster local` runs the embedded
    sweep, and `python -m orchestrator run --help` lists its settings.
    """

    model_config = SettingsConfigDict(
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=True,
        cli_exit_on_error=False,
        nested_model_default_partial_update=False,
    )

    run: CliSubCommand[Run] = Field(description="run a sweep, or resume it")
    plan: CliSubCommand[Plan] = Field(description="say what would run, where and how big")
    status: CliSubCommand[Status] = Field(description="say how far a run is, and how fast it goes")
    report: CliSubCommand[Report] = Field(
        description="write a run's report again, or show several side by side"
    )
    gate: CliSubCommand[Gate] = Field(description="hold a finished run against criteria")
    history: CliSubCommand[History] = Field(description="show each model's runs over time")
    export: CliSubCommand[Export] = Field(
        description="write a run's pictures, tables and model cards into a folder"
    )
    verify: CliSubCommand[Verify] = Field(description="compute some of a run again, and compare")
    audit: CliSubCommand[Audit] = Field(
        description="say whether a model's weights were once quantized"
    )
    manifest: CliSubCommand[Manifest] = Field(
        description="write the hash of every tensor and file of a model"
    )
    calibration: CliSubCommand[Calibration] = Field(
        description="say what a calibration set is like, and what speaks against it"
    )


def run_command(arguments: Sequence[str]) -> int:
    """Parses a command line and runs its command.

    Returns:
        The exit status. An `OrchestratorError` is told in one line.
    """
    tell_as("text")
    try:
        command = parse_command(arguments)
        # Imported here: help and a wrong flag must wait for neither, nor a sweep for the reports.
        if isinstance(command, Run | Plan):
            if isinstance(command, Plan):
                from orchestrator.show_plan import show_plan

                settings = command.resolved()
                tell_as(settings.log_format)
                return show_plan(settings)
            from orchestrator.sweep import run_sweep

            return run_sweep(command.resolved(), began=process_began())
        if isinstance(command, Audit):
            from orchestrator.audit import audit_model

            return audit_model(
                command.model,
                revision=command.revision,
                everything=command.all,
                json_file=_at_home(command.json_file),
                manifest=_at_home(command.manifest),
                public_key=_at_home(command.public_key),
                reference=command.reference,
            )
        if isinstance(command, Manifest):
            from orchestrator.audit import write_manifest

            return write_manifest(
                command.model,
                revision=command.revision,
                path=command.to.expanduser(),
                key=_at_home(command.key),
            )
        if isinstance(command, Calibration):
            from orchestrator.check_calibration import check_calibration

            return check_calibration(
                command.file.expanduser(),
                command.evaluated(),
                column=command.text_column,
                checkpoint=command.checkpoint,
                thresholds=_at_home(command.thresholds),
                json_file=_at_home(command.json_file),
            )
        from orchestrator import run_commands
        from orchestrator.storage.results_folder import ResultsFolder

        results = ResultsFolder.at(command.results)
        match command:
            case Report():
                return run_commands.show_reports(list(map(results.find, command.run)))
            case History():
                return run_commands.show_history(
                    results, command.model, command, alarm=command.alarm
                )
            case Gate():
                return run_commands.show_gates(
                    results.find(command.run), command, write=command.write
                )
            case Status():
                return run_commands.show_status(results.find(command.run))
            case Export():
                from orchestrator.export import export_run

                return export_run(results.find(command.run), command.to.expanduser())
            case Verify():
                from orchestrator.verify import verify_run

                return verify_run(
                    results.find(command.run),
                    sample=command.sample,
                    seed=command.seed,
                    tolerance=command.tolerance,
                    here=command.here(),
                )
        raise BadInputError("command", f"name one of {', '.join(Commands.model_fields)}")
    except OrchestratorError as error:
        say(messages_console(), f"error: {error}", level="error")
        return error.exit_status
    except OSError as error:
        # What no reader foresaw of a file, such as a name that no folder can have.
        if error.filename is None:
            raise
        say(
            messages_console(),
            f"error: {error.filename}: {error.strerror}; {remedy_for(error)}",
            level="error",
        )
        return ExitStatus.BAD_INPUT


def _at_home(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser()


def _meant(problem: str) -> str:
    """Which flag was meant by one that there is not."""
    flag = re.search(r"unrecognized arguments: (--[\w-]+)", problem)
    known = {
        flag_name(name)
        for command in (
            Run,
            Report,
            History,
            Gate,
            Status,
            Export,
            Verify,
            Audit,
            Manifest,
            Calibration,
        )
        for name in command.model_fields
    }
    return did_you_mean(flag[1], known) if flag else ""


def parse_command(arguments: Sequence[str]) -> Any:
    """The command that some words say, with what it is given.

    Raises:
        BadInputError: they say none.
    """
    old, new = flag_name(OLD_NAME), flag_name("gate_set")
    words = [re.sub(f"^{old}(?=$|=)", new, word) for word in arguments]
    if not words or (words[0].startswith("-") and words[0] not in _OF_ALL):
        words.insert(0, "run")
    if words[0] not in (*Commands.model_fields, *_OF_ALL):
        meant = did_you_mean(words[0], Commands.model_fields)
        known = ", ".join(Commands.model_fields)
        raise BadInputError("command", f"no '{words[0]}'{meant or f'; there are {known}'}")
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(Commands, cli_prog_name=program())
        said = f"{INSTALLED} {VERSION}"
        source.root_parser.add_argument("--version", action="version", version=said)
        make_readable(source.root_parser, _SettingsCommand.model_fields)
        return get_subcommand(Commands(_cli_settings_source=source(args=words)))
    except SettingsError as error:
        problem = str(error).removeprefix("error parsing CLI: ")
        raise BadInputError(
            "command line", f"{problem}{_meant(problem) or '; see --help'}"
        ) from None
    except ValidationError as error:
        raise settings_error(error) from None

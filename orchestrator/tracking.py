"""A finished run → an experiment tracker: settings, each figure by its gate's name, the report.

Where it goes is said by each library's own environment variables, as for any other program.
"""

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.console import messages_console, say
from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.process import INSTALLED
from orchestrator.settings import TrackerName
from orchestrator.storage.file_names import RunFile

if TYPE_CHECKING:
    from orchestrator.comparison_schema import Comparison
    from orchestrator.publish import Published

# Of runs that are given none by the tracker's own variable.
_PROJECT = INSTALLED
_RUN_TAG = f"{INSTALLED}.run_id"


@dataclass(frozen=True)
class _Sent:
    """What a tracker is told.

    Attributes:
        figures: by variant and gate's name, such as `nf4/kl.mean`; where it has an interval, with
            `_low` and `_high` behind.
        files: their names.
    """

    run_id: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]
    files: tuple[str, ...]


def check_tracker(name: TrackerName) -> None:
    """Refuses a tracker that is not installed, before anything is run for it.

    Raises:
        BadInputError: it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise BadInputError(
            "--tracker", f"{name} is not installed; pip install '{INSTALLED}[{name}]'"
        )


def track(name: TrackerName, published: "Published") -> None:
    """Sends a finished run; one that was sent before is sent into the same place again.

    Raises:
        SweepFailedError: the tracker does not take it; the run itself is whole.
    """
    run = published.run
    sent = _Sent(
        run_id=run.comparison.run_id,
        settings={k: v for k, v in run.manifest.settings.items() if v not in (None, [], ())},
        figures=dict(_figures(run.comparison)),
        files=tuple(str(published.folder.path / f) for f in (RunFile.PAGE, RunFile.COMPARISON)),
    )
    try:
        # What a library prints of itself is no result of ours.
        with redirect_stdout(sys.stderr):
            _TRACKERS[name](sent)
    except Exception as error:  # of a library, of its configuration, of a network
        raise SweepFailedError(
            f"the run is whole, and {name} did not take it "
            f"({first_line(error) or type(error).__name__}); see to that, and run the same command "
            "again to send it"
        ) from None
    say(messages_console(), f"{sent.run_id}: {len(sent.figures)} figures sent to {name}")


def _figures(comparison: "Comparison") -> Iterator[tuple[str, float]]:
    # Imported here: a sweep that sends nothing needs none of it.
    from orchestrator.gates.gate_measures import GATE_MEASURES

    for variant, figures in comparison.variants.items():
        for measure in GATE_MEASURES.values():
            reading = measure.of_variant(figures)
            if (
                not measure.is_own(figures)
                or reading.value is None
                or not math.isfinite(reading.value)
            ):
                continue
            yield f"{variant}/{measure.name}", reading.value
            if reading.interval is not None:
                low, high = reading.interval
                yield f"{variant}/{measure.name}_low", low
                yield f"{variant}/{measure.name}_high", high


def _to_wandb(sent: _Sent) -> None:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        id=sent.run_id,
        name=sent.run_id,
        resume="allow",
        config=dict(sent.settings),
        settings=wandb.Settings(silent=True),
    )
    with run:
        run.log(dict(sent.figures))
        artifact = wandb.Artifact(f"{sent.run_id}-report", type="report")
        for file in sent.files:
            artifact.add_file(file)
        run.log_artifact(artifact)


def _to_mlflow(sent: _Sent) -> None:
    import mlflow

    experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT))
    earlier = mlflow.MlflowClient().search_runs(
        [experiment.experiment_id], f"tags.`{_RUN_TAG}` = '{sent.run_id}'"
    )
    known = {"run_id": earlier[0].info.run_id} if earlier else {"run_name": sent.run_id}
    with mlflow.start_run(**known):
        mlflow.set_tag(_RUN_TAG, sent.run_id)
        if not earlier:
            mlflow.log_params({name: str(value) for name, value in sent.settings.items()})
        mlflow.log_metrics(dict(sent.figures))
        for file in sent.files:
            mlflow.log_artifact(file)


def _to_trackio(sent: _Sent) -> None:
    import trackio

    trackio.init(
        project=_PROJECT,
        name=sent.run_id,
        config=dict(sent.settings),
        resume="allow",
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    trackio.log(dict(sent.figures))
    trackio.finish()


_TRACKERS: dict[TrackerName, Callable[[_Sent], None]] = {
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
}

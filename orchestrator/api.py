"""The sweep as a function: `from orchestrator import compare`, in a script or a notebook."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SweepFailedError
from orchestrator.settings_layers import normalized, resolve_settings
from orchestrator.sweep import sweep
from orchestrator.tracking import track

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.comparison_schema import Comparison
    from orchestrator.gates.verdicts import Judgement
    from orchestrator.publish import Published

# In the process itself, a model after the other.
_DEFAULTS = {"cluster": "none"}


@dataclass(frozen=True)
class Result:
    """A finished sweep.

    Attributes:
        folder: its files, `report.html` among them; of a run at a URL, copies that go with the
            process.
    """

    folder: Path
    _published: "Published"

    @property
    def comparison(self) -> "Comparison":
        """Every figure, as `comparison.json` has it: `.variants["nf4"].kl.mean.interval`."""
        return self._published.run.comparison

    @property
    def judgement(self) -> "Judgement":
        """The verdicts of the gates, as `gates.json` has them: `.passed`, `.recommendation`."""
        return self._published.judgement

    @property
    def tables(self) -> dict[str, "pa.Table"]:
        """What was measured, a row an item, as Arrow tables by name; as `tables/*.parquet` has it,
        but for those of single tokens, which are large: read them there.
        """
        return self._published.run.tables.by_name

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and where the report is."""
        from orchestrator.report.page import shown_in_a_notebook
        from orchestrator.report.sentences import of_recommendation
        from orchestrator.report.tables.quality_tables import summary

        said = of_recommendation(self.judgement, self.comparison)
        return shown_in_a_notebook(summary(self.comparison), said)

    def __repr__(self) -> str:
        return f"Result({self.folder})"


def compare(config: str | Path | Mapping[str, Any] | None = None, **settings: Any) -> Result:
    """Runs a sweep, or what of it is not yet finished, and compares its variants.

    It is what `python -m orchestrator run` does, and resumes its runs, but in the process itself
    unless `cluster` says otherwise. Progress goes to standard error.

    Args:
        config: a YAML file of settings, or a mapping of them.
        settings: those of the command line, by their names with underscores, over `config`'s:
            `model`, `dataset`, `variants`, `gate`, `results` and so on; without any, the demo's.

    Returns:
        The finished sweep; whether gates pass is in its `judgement`.

    Raises:
        BadInputError: a setting cannot be used, in one line with the remedy.
        OrchestratorError: the sweep could not be finished: what is finished is kept, and the same
            call goes on from there.
    """
    layer, file = (config, None) if isinstance(config, Mapping) else ({}, config)
    given = {**normalized(layer), **normalized(settings)}
    chosen = resolve_settings(
        given, config=None if file is None else Path(file), defaults=_DEFAULTS
    )
    swept = sweep(chosen)
    if swept.stopped:
        raise SweepFailedError("stopped early; what is finished is kept: the same call goes on")
    if swept.abandoned or swept.published is None:
        raise SweepFailedError(
            f"incomplete: {swept.abandoned} shards were given up, see {swept.folder}/report.md; "
            "the same call tries them again"
        )
    if chosen.tracker is not None:
        track(chosen.tracker, swept.published)
    return Result(swept.folder.path, swept.published)

"""What each device did when → a trace that Chrome's `about:tracing` and Perfetto show.

Format: Google, "Trace Event Format", complete events (`X`) and metadata (`M`); microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.figures.timeline import Start, Stretch

_PROCESS = {"pid": 1}
_DRIVER = 0


def render_trace(starts: Sequence[Start]) -> str:
    """The trace of a run, of which time 0 is its first command."""
    zero = starts[0].began
    stretches = [stretch for start in starts for stretch in start.stretches]
    content = {
        "displayTimeUnit": "ms",
        "traceEvents": [*_names(stretches), *_rows(stretches, zero)],
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


def _names(stretches: Sequence[Stretch]) -> Iterator[dict[str, Any]]:
    """What the rows are called, in their order."""
    yield {"ph": "M", "name": "process_name", **_PROCESS, "args": {"name": "sweep"}}
    for row in sorted({_row(stretch) for stretch in stretches}):
        name = "driver" if row == _DRIVER else f"device {row}"
        for key, value in (
            ("thread_name", {"name": name}),
            ("thread_sort_index", {"sort_index": row}),
        ):
            yield {"ph": "M", "name": key, **_PROCESS, "tid": row, "args": value}


def _rows(stretches: Sequence[Stretch], zero: float) -> Iterator[dict[str, Any]]:
    for stretch in stretches:
        what = {"variant": stretch.variant, "shard": stretch.shard}
        yield {
            "ph": "X",
            "name": f"{stretch.variant} {stretch.phase}" if stretch.variant else stretch.phase,
            "cat": stretch.phase,
            **_PROCESS,
            "tid": _row(stretch),
            "ts": round((stretch.began - zero) * 1e6),
            "dur": round(stretch.seconds * 1e6),
            "args": {key: value for key, value in what.items() if value is not None},
        }


def _row(stretch: Stretch) -> int:
    return _DRIVER if stretch.place is None else stretch.place + 1

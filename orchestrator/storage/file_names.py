"""The names of a run's files."""

from enum import StrEnum

MANIFEST, EVENTS, AUDITS = "run.json", "events.jsonl", "audits.json"
SHARDS, TABLES = "shards", "tables"
SHARD_ENDING = ".arrow"
# What names the files in folders whose files come and go.
WRITTEN = "written.json"


class RunFile(StrEnum):
    """What is made of a run's shards."""

    COMPARISON = "comparison.json"
    COMPARISON_SCHEMA = "comparison.schema.json"
    GATES = "gates.json"
    MARKDOWN = "report.md"
    PAGE = "report.html"
    KL_PLOT = "kl.svg"
    TRACE = "trace.json"


class RunGroup(StrEnum):
    """What is made of a run's shards, several files of a kind: their folders."""

    SUMMARY = "summary"
    ANSWERS = "answers"

"""Tables hold what their schema says: nothing left out, nothing made up."""

from typing import Any

import pyarrow as pa
import pytest

from actors.engine import ENGINES
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import check_no_nulls, make_table
from orchestrator.contract.variants import VARIANTS
from orchestrator.planning.pieces import PAYLOADS
from orchestrator.planning.sizes import HELD_BYTES

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field(
            "parts",
            pa.list_(
                pa.field(
                    "item",
                    pa.struct(
                        [
                            pa.field("text", pa.string(), nullable=False),
                            pa.field("times", pa.list_(pa.field("item", pa.float64(), False))),
                        ]
                    ),
                    nullable=False,
                )
            ),
        ),
    ]
)
PART = {"text": "a", "times": [1.0]}
ROW: dict[str, Any] = {"name": "x", "size": 1, "parts": [PART]}


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {**ROW, "size": None},
        {**ROW, "parts": None},
        {**ROW, "parts": []},
        {**ROW, "parts": [{**PART, "times": None}]},
    ],
)
def test_a_row_of_the_schema_is_a_row_of_the_table(row: dict[str, Any]) -> None:
    table = make_table([ROW, row], SCHEMA)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [ROW, row]


def test_of_no_rows_there_is_an_empty_table() -> None:
    assert make_table([], SCHEMA).equals(SCHEMA.empty_table())


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({**ROW, "sise": 2}, "unknown column sise"),
        ({"name": "x", "parts": [PART]}, "lacks the column size"),
        ({**ROW, "name": None}, "column name has no value"),
        ({**ROW, "parts": [{**PART, "txt": "b"}]}, "record of parts has the unknown column txt"),
        ({**ROW, "parts": [PART, {"text": "b"}]}, "record of parts lacks the column times"),
        ({**ROW, "parts": [PART, {**PART, "text": None}]}, "parts.item.text has no value"),
        ({**ROW, "parts": [{**PART, "times": [1.0, None]}]}, "parts.item.times.item has no value"),
        ({**ROW, "size": "large"}, "large"),
    ],
)
def test_any_other_row_is_refused(row: dict[str, Any], problem: str) -> None:
    with pytest.raises((ValueError, TypeError), match=problem):
        make_table([ROW, row], SCHEMA)


def test_what_arrow_lets_pass_is_found_wherever_it_lies() -> None:
    rows = [ROW, {**ROW, "parts": [PART, {**PART, "text": None}]}]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    table.validate(full=True)
    with pytest.raises(ValueError, match=r"parts\.item\.text"):
        check_no_nulls(table)
    # Also where it is in a part of a column alone.
    with pytest.raises(ValueError, match="column name"):
        check_no_nulls(pa.concat_tables([make_table([ROW], SCHEMA), nameless()]))


def nameless() -> pa.Table:
    return pa.Table.from_pylist([{**ROW, "name": None}], schema=SCHEMA)


def test_every_stage_and_kind_of_variant_is_known_wherever_it_must_be() -> None:
    assert list(PAYLOADS) == list(STAGES)
    assert {variant.kind for variant in VARIANTS.values()} <= HELD_BYTES.keys()
    assert ENGINES.keys() == HELD_BYTES.keys()
    for name, stage in STAGES.items():
        assert stage.name == name == stage.payload.model_fields["stage"].default
        assert stage.schema.field(0).name == "variant"
        assert stage.reads is None or stage.reads in STAGES

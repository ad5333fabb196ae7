"""The demo's figures: as they were measured when they were first shown, and as the README says."""

import json
import math
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.settings_layers import resolve_settings
from tests.pipeline import make_test_plan, run_in_process
from tests.places import REPOSITORY

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "demo_windows.json").read_text())
LIKELIHOODS: dict[str, list[float]] = GOLDEN["negative_log_likelihood"]
# Processors add in other orders, and what is quantized rounds to its steps. NF4 is 2e-3 from FP16.
TOLERANCE = {"fp16": 2e-5, "int8": 2e-4, "nf4": 4e-4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    results = tmp_path_factory.mktemp("results")
    settings = resolve_settings({"max_prompts": 0, "results": results, "run_id": "demo"})
    return results / "demo", run_in_process(make_test_plan(**settings.model_dump()))


@pytest.mark.parametrize("variant", LIKELIHOODS)
def test_the_demo_has_the_likelihoods_that_it_always_had(
    variant: str, run: tuple[Path, Comparison]
) -> None:
    rows = pq.read_table(run[0] / "tables" / "windows.parquet").to_pylist()
    mine = [row for row in rows if row["variant"] == variant]
    assert [row["scored_tokens"] for row in mine] == GOLDEN["scored_tokens"]
    found = [row["negative_log_likelihood"] for row in mine]
    assert found == pytest.approx(LIKELIHOODS[variant], rel=TOLERANCE[variant])


@pytest.mark.parametrize("variant", LIKELIHOODS)
def test_the_readme_shows_the_demos_perplexity(variant: str, run: tuple[Path, Comparison]) -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = re.search(rf"^│ {variant} +│ +([0-9.]+) ± ([0-9.]+) │", page, re.MULTILINE)
    assert shown is not None
    golden = math.exp(sum(LIKELIHOODS[variant]) / sum(GOLDEN["scored_tokens"]))
    assert float(shown[1]) == pytest.approx(golden, abs=0.015)
    low, high = run[1].variants[variant].perplexity.interval or (0, 0)
    assert float(shown[2]) == pytest.approx((high - low) / 2, abs=0.015)


def test_the_demo_tells_its_variants_apart_and_the_readme_shows_it(
    run: tuple[Path, Comparison],
) -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    bounds = [0.0]
    for variant in ("int8", "nf4"):
        figures = run[1].variants[variant]
        assert figures.kl
        assert figures.kl.mean.value
        assert figures.kl.mean.interval
        assert figures.same_top_token
        low, high = figures.kl.mean.interval
        assert low > bounds[-1]
        bounds += [low, high]
        shares = r"([0-9.]+)(?: ± \S+%|% \[\S+ \S+\])"
        row = re.search(rf"^│ {variant} .*│ +(\S+) ± \S+ │ +{shares} │", page, re.MULTILINE)
        assert row is not None
        assert float(row[1]) == pytest.approx(figures.kl.mean.value, rel=0.1)
        assert float(row[2]) == pytest.approx(100 * (figures.same_top_token.value or 0), abs=0.5)

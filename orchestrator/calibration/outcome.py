"""What is said of a calibration set, as `--json` writes it."""

from pydantic import Field

from orchestrator.contract.frozen import Frozen


class Lengths(Frozen):
    """Tokens of a row."""

    least: int
    median: float
    p95: float
    most: int


class Recipe(Frozen):
    """How a checkpoint says that it was quantized.

    Attributes:
        values: what each of its files says, by the file's name and the setting.
    """

    checkpoint: str
    values: dict[str, dict[str, str]]
    contradictions: tuple[str, ...]


class Finding(Frozen):
    """What speaks against a set.

    Attributes:
        measure: of the set; None where it is of a recipe.
        said: in a sentence.
    """

    measure: str | None
    value: float | None
    threshold: float | None
    said: str


class CalibrationSet(Frozen):
    """A set, held against a model's vocabulary and what the model is evaluated with."""

    file: str
    rows: int
    tokens: int
    row_tokens: Lengths
    short_rows_share: float = Field(description="rows of less than 32 tokens")
    categories: dict[str, int] = Field(description="rows by what the file says they are of")
    languages: dict[str, float] | None = Field(
        description="shares of the rows looked at; null where py3langid is not installed"
    )
    languages_missing_share: float | None = Field(
        description="rows of the evaluation in languages that less than 1% of the set is in"
    )
    looked_at_rows: int = Field(description="for languages and near duplicates")
    duplicate_rows_share: float = Field(description="the same but for case and white space")
    near_duplicate_rows_share: float | None = Field(
        description="rows looked at of which another has four fifths of the runs of five words; "
        "null where datasketch is not installed"
    )
    vocabulary: int
    vocabulary_seen_share: float
    evaluation_tokens_covered_share: float = Field(
        description="of the evaluation's tokens those that occur in the set"
    )
    divergence_bits: float = Field(
        description="of its tokens' frequencies from the evaluation's: Jensen and Shannon's, "
        "0 (alike) to 1 (none in common)"
    )
    windows: int
    windows_held: tuple[int, ...] = Field(
        description="windows of which a run of 32 tokens occurs in the set, by number"
    )
    windows_held_share: float
    prompts: int
    prompts_held: tuple[str, ...] = Field(
        description="prompts of which 13 words in a row, or all of fewer, occur in the set"
    )
    prompts_held_share: float
    recipe: Recipe | None
    findings: tuple[Finding, ...]

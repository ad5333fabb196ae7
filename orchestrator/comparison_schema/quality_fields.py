"""Quality in `comparison.json`: perplexity and divergence."""

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Compared, Part, TokenMeasure

# Of all scored tokens, by linear interpolation.
Percentiles = dict[str, float]
PERCENTILES = ("99.9", "99", "95", "90", "75", "50", "25", "10", "5", "1")


# By the percentile's name; null for fewer than 6 stretches.
PercentileIntervals = dict[str, tuple[float, float]] | None


class Perplexity(Compared):
    """Token perplexity: exp of the mean negative log-likelihood of a scored token."""

    stderr_tokens: float | None = Field(description="as of a measure over tokens")
    scored_tokens: int
    windows: int


class Bucket(Part):
    """The scored tokens of which a quantity is at least `from`, and below `to`."""

    lower: float = Field(alias="from")
    upper: float | None = Field(alias="to", description="null where there is no bound")
    share: float = Field(description="of all scored tokens")
    kl: TokenMeasure
    same_top_token: TokenMeasure


class Exceedance(Part):
    """How many tokens a KL is larger than a value of."""

    kl: float
    share: float = Field(description="of all scored tokens, those whose KL is larger")


class TextSample(Part):
    """What of the text was scored, and into how many units its windows are cut."""

    windows: int = Field(description="planned")
    text_windows: int | None = Field(
        description="that the whole text has; null of runs that did not count them"
    )
    stretches: int = Field(description="contiguous parts of the text that intervals take for units")
    autocorrelation: float | None = Field(
        description="of the mean likelihood of a window under the reference with the next one's; "
        "null of fewer than 3 windows, or where it is not a number"
    )


class WorstToken(Part):
    """A scored token with a large KL, in its context."""

    window: int
    position: int = Field(description="its place in the window")
    context: str = Field(description="what is before it in the window, the last of it")
    token: str = Field(description="the true token")
    kl: float
    reference_probability: float = Field(description="of the true token")
    probability: float = Field(description="of the true token under the variant")
    reference_top_token: str
    reference_top_probability: float
    top_token: str = Field(description="the variant's")
    top_probability: float


class KLDivergence(Part):
    """How far the variant's next-token distributions are from the reference's, in nats.

    Of a token, over the whole vocabulary; the means are over all scored tokens.
    """

    mean: TokenMeasure = Field(description="KL(reference ‖ variant)")
    reverse_mean: TokenMeasure = Field(description="KL(variant ‖ reference)")
    maximum: float
    minimum: float
    percentiles: Percentiles
    percentiles_interval: PercentileIntervals
    distribution: list[Exceedance]
    by_confidence: list[Bucket] = Field(description="by the reference's top probability")
    by_position: list[Bucket] = Field(description="by the place in the window, from 0")
    worst_tokens: list[WorstToken] = Field(description="those with the largest KL, in order")
    identical: bool = Field(description="whether the KL of every scored token is 0")
    indistinguishable: bool | None = Field(
        description="whether the whole interval of the mean is no more than the noise floor times "
        "its factor, or than what float32 resolves; null where there is no noise floor"
    )


class NoiseFloor(Part):
    """The reference against itself, its arithmetic in another order: what rounding alone does."""

    how: str
    kl: TokenMeasure
    same_top_token: TokenMeasure
    distribution: list[Exceedance]
    factor: float = Field(description="how many times it a mean KL may be and count as rounding")
    resolution: float = Field(description="the mean KL that float32 resolves, in nats")


class Pair(Part):
    """Two candidates over the same windows; differences are a's figure less b's."""

    a: str
    b: str
    kl_difference: TokenMeasure = Field(description="of both mean KLs, in nats")
    log_perplexity_difference: TokenMeasure
    p_value: float | None = Field(
        description="of the difference in KL, two-sided, Student's t over stretches"
    )
    p_value_holm: float | None = Field(description="the same adjusted for the number of pairs")
    significant: bool = Field(description="whether that is below what the confidence leaves")


class ProbabilityChange(Part):
    """The true token's probability under the variant less that under the reference."""

    mean: TokenMeasure
    rms: TokenMeasure = Field(description="the root of the mean square")
    maximum: float
    minimum: float
    percentiles: Percentiles
    percentiles_interval: PercentileIntervals

"""What a table of a report is made of: cells with their text and the numbers behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.comparison_schema import Compared, KLDivergence, Measure
from orchestrator.report.tables import formats

Value = float | int | str | None


@dataclass(frozen=True)
class Cell:
    """A cell: one text for every page, and what a CSV file holds of it.

    Attributes:
        value, interval: the numbers that the text is of, in the unit of the column's key.
        quoted: text of a model or data set that stands before `text`, as it is.
        is_emphasized: whether it is no variant's name.
    """

    text: str
    value: Value = None
    interval: tuple[float, float] | None = None
    quoted: str | None = None
    is_emphasized: bool = False

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing to show."""
        return self.text == formats.ABSENT


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its name in a CSV file, with the unit where one could doubt.
        absent: why a cell of it may be absent.
        look: how a page may show the size of its numbers: as a bar, or as a shade among all columns
            that are shaded.
    """

    head: str
    key: str
    absent: str = ""
    look: Literal["text", "passage", "number", "bar", "shade"] = "number"

    @property
    def alignment(self) -> str:
        """What its cells hold: words, passages of text, or numbers."""
        return {"text": "words", "passage": "words passage"}.get(self.look, "number")


@dataclass(frozen=True)
class ReportTable:
    """A table of a report.

    Attributes:
        name: of its CSV file.
        caption: what a screen reader says of it.
        notes: paragraphs below it; `code` stands between backticks.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    @property
    def absences(self) -> list[str]:
        """Why cells are absent, with the columns in which that is so: `not on a CPU (peak)`."""
        heads: dict[str, list[str]] = {}
        for number, column in enumerate(self.columns):
            found = any(row[number].is_absent for row in self.rows if not row[0].is_emphasized)
            if column.absent and found and column.head not in heads.get(column.absent, []):
                heads.setdefault(column.absent, []).append(column.head)
        return [f"{reason} ({', '.join(names)})" for reason, names in heads.items()]


VARIANT = Column("variant", "variant", look="text")
# Why a cell is absent.
NOT_COMPARED = "held against nothing, or not against the same items"
NOT_LOADED = "not loaded yet"
ON_CPU = "not measured on a CPU"
ONE_TOKEN = "answers of one token"


def text(value: object) -> Cell:
    """A cell of words."""
    return Cell(str(value), str(value))


def absent() -> Cell:
    """A cell without a figure."""
    return Cell(formats.ABSENT)


def count(value: int) -> Cell:
    """A cell with a number of things."""
    return Cell(str(value), value)


def quoted(value: str, shown: str = "", number: float | None = None) -> Cell:
    """Text that is not ours, and what is said of it."""
    return Cell(shown, number if number is not None else value, quoted=value)


def measure(figure: Measure, digits: int = 2) -> Cell:
    """As `formats.measure`."""
    return Cell(formats.measure(figure, digits), figure.value, figure.interval)


def change(figure: Compared, digits: int = 2) -> Cell:
    """As `formats.change`, in percent."""
    return Cell(formats.change(figure, digits), figure.delta_pct, figure.delta_pct_interval)


def kl(figure: KLDivergence | None) -> Cell:
    """As `formats.kl`, in nats."""
    return small(None if figure is None else figure.mean)


def small(figure: Measure | None) -> Cell:
    """As `formats.small`."""
    return _of(figure, formats.small(figure))


def percent(figure: Measure | None, digits: int = 2) -> Cell:
    """As `formats.percent`, as a share."""
    return _of(figure, formats.percent(figure, digits))


def proportion(figure: Measure) -> Cell:
    """As `formats.proportion`, as a share."""
    return _of(figure, formats.proportion(figure))


def milliseconds(figure: Measure) -> Cell:
    """As `formats.milliseconds`, in seconds."""
    return _of(figure, formats.milliseconds(figure))


def thousandfold(value: float | None, digits: int = 2) -> Cell:
    """As `formats.thousandfold`, in seconds."""
    return Cell(formats.thousandfold(value, digits), value)


def significant(value: float | None, digits: int = 3) -> Cell:
    """As `formats.significant`."""
    return Cell(formats.significant(value, digits), value)


def tenths(value: float) -> Cell:
    """As `formats.tenths`."""
    return Cell(formats.tenths(value), value)


def p_value(value: float | None) -> Cell:
    """As `formats.p_value`."""
    return Cell(formats.p_value(value), value)


def share_of_all(value: float) -> Cell:
    """As `formats.share_of_all`, as a share."""
    return Cell(formats.share_of_all(value), value)


def size(value: int | None) -> Cell:
    """As `formats.size`, in bytes."""
    return Cell(formats.size(value), value)


def times(value: float | None) -> Cell:
    """As `formats.times`."""
    return Cell(formats.times(value), value)


def share(part: int, whole: int) -> Cell:
    """As `formats.share`, as a share."""
    return Cell(formats.share(part, whole), part / whole if whole else None)


def _of(figure: Measure | None, shown: str) -> Cell:
    if figure is None:
        return Cell(shown)
    return Cell(shown, figure.value, figure.interval)

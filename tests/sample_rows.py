"""Rows like WikiText's, for tests."""

import json
import random

from tests.places import REPOSITORY

_TITLES = ("Harrow Bridge", "The Captain 's Song", "SS Coronet")
_SECTIONS = ("History", "Construction and loss", "Reception")
_SUBSECTIONS = ("Early years", "Post @-@ war period", "Critical response")
_WORDS: dict[str, tuple[str, ...]] = {
    "person": (
        "Alice Thorne",
        "Edmund Varley",
        "Captain Mérode",
        "J. R. Pell",
        "Margit Sørensen",
        "the Earl of Harrow",
        "the chief engineer",
        "a local historian",
    ),
    "place": (
        "Harrow",
        "Ardwell",
        "the northern valley",
        "Port Lisle",
        "the old quarter",
        "Zürich",
        "the eastern shore",
    ),
    "thing": (
        "bridge",
        "chapel",
        "song",
        "forest",
        "steamship",
        "railway",
        "recording",
        "harbour",
        "manuscript",
    ),
    "adjective": (
        "narrow",
        "well @-@ known",
        "stone",
        "nineteenth @-@ century",
        "short @-@ lived",
        "remarkable",
        "half @-@ finished",
        "plain",
    ),
    "verb": ("described", "rebuilt", "released", "surveyed", "criticised", "praised", "abandoned"),
    "month": ("January", "March", "June", "September", "November"),
}
_SENTENCES = (
    "The {adjective} {thing} at {place} was {verb} by {person} in {month} {year} .",
    "In {month} {year} , {person} {verb} the {thing} , which had cost £ {large} to complete .",
    'It was called " a {adjective} {thing} " by {person} , who had seen it twice .',
    "About {large} people ( mostly from {place} ) came to see the {thing} ; few of them stayed .",
    "The {thing} is {small} @.@ {digit} miles ( {small} km ) long and stands near {place} .",
    "{person} 's account , written in {year} , says that the {thing} was ' {adjective} ' .",
    "The workers ' {thing} lay at {small} ° N of the line , and its owners ' claim was refused .",
    'Said {person} : " the {thing} can \'t be saved " , but the {thing} was {verb} anyway .',
    "Was the {thing} at {place} ever {verb} ? Nobody in {place} could say !",
    "By {year} – {year2} the {adjective} {thing} [ sic ] had been {verb} and {verb} again .",
    "{person} and {person} travelled from {place} to {place} , a journey of {small} days .",
)


def _sentence(generator: random.Random) -> str:
    sentence = generator.choice(_SENTENCES)
    for slot, words in _WORDS.items():
        while f"{{{slot}}}" in sentence:
            sentence = sentence.replace(f"{{{slot}}}", generator.choice(words), 1)
    year = generator.randint(1800, 1990)
    sentence = sentence.format(
        year=year,
        year2=year % 100 + 5,
        large=f"{generator.randint(1, 99)} @,@ {generator.randint(0, 999):03d}",
        small=generator.randint(2, 60),
        digit=generator.randint(1, 9),
    )
    return sentence[0].upper() + sentence[1:]


def _paragraph(generator: random.Random) -> str:
    sentences = [_sentence(generator) for _ in range(generator.randint(4, 8))]
    return f" {' '.join(sentences)} \n"


def _sample_rows() -> list[str]:
    """Articles in the hub's layout: a blank row on each side of a heading."""
    generator = random.Random(20)
    rows: list[str] = []
    for title in _TITLES:
        rows += ["", f" = {title} = \n", "", _paragraph(generator), _paragraph(generator)]
        rows += ["", f" = = {_SECTIONS[0]} = = \n", "", _paragraph(generator)]
        rows += ["", f" = = = {generator.choice(_SUBSECTIONS)} = = = \n", ""]
        rows += [_paragraph(generator), " Yes . \n", _paragraph(generator)]
        rows += ["", f" = = {generator.choice(_SECTIONS[1:])} = = \n", "", _paragraph(generator)]
    return [*rows, ""]


SAMPLE_ROWS: list[str] = _sample_rows()


def sample_pages() -> list[dict[str, str]]:
    """The articles of the sample rows: as they stand (`page`) and as running text (`detokenized`).

    They lie in a file, written once and read through, so that no rule is applied here.
    """
    path = REPOSITORY / "tests" / "golden" / "sample_pages.json"
    pages: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return pages

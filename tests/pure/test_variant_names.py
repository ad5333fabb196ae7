"""What a variant is called: one form for many ways to say it, and a line for what is none."""

import re

import pytest

from orchestrator.contract.names import VARIANT_PATTERN
from orchestrator.contract.noise import Noise
from orchestrator.contract.variant_names import read_words
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.gates.language import parse_gate
from orchestrator.settings_layers import resolve_settings


@pytest.mark.parametrize(
    ("said", "name", "noise"),
    [
        ("nf4", "nf4", None),
        ("nf4+noise=0.50", "nf4+noise=0.5", Noise(sigma=0.5, unit="nf4")),
        ("nf4+noise=nf4:0.5", "nf4+noise=0.5", Noise(sigma=0.5, unit="nf4")),
        ("nf4+noise=5e-1@0", "nf4+noise=0.5", Noise(sigma=0.5, unit="nf4")),
        ("nf4+noise=.5@07", "nf4+noise=0.5@7", Noise(sigma=0.5, unit="nf4", seed=7)),
        ("fp16+noise=nf4:0.5", "fp16+noise=nf4:0.5", Noise(sigma=0.5, unit="nf4")),
        ("fp16+noise=abs:1e-3", "fp16+noise=abs:0.001", Noise(sigma=1e-3, unit="abs")),
        ("nf4+noise=0.12345678", "nf4+noise=0.12345678", Noise(sigma=0.12345678, unit="nf4")),
        ("fp16+noise=abs:1e20", "fp16+noise=abs:1e20", Noise(sigma=1e20, unit="abs")),
        ("torchao-int4+noise=2", "torchao-int4+noise=2", Noise(sigma=2, unit="torchao-int4")),
    ],
)
def test_a_variant_has_one_name_however_it_is_said(
    said: str, name: str, noise: Noise | None
) -> None:
    words = read_words(said)
    assert (words.name, words.noise, words.source) == (name, noise, None)
    assert read_words(words.name) == words
    assert resolve_settings({"model": "demo", "variants": ["fp32", said]}).variants == (
        "fp32",
        name,
    )


def test_a_path_may_have_a_plus_in_it() -> None:
    for source in ("./a+b", "./a+noise=b/c", "org/name@1+2"):
        words = read_words(f"mine={source}")
        assert (words.base, words.source, words.text) == ("mine", source, f"mine={source}")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("nf4+noise=-1", "noise is a number above 0"),
        ("nf4+noise=0", "noise is a number above 0"),
        ("nf4+noise=nan", "noise is a number above 0"),
        ("nf4+noise=inf", "noise is a number above 0"),
        ("nf4+noise=", "noise is a number above 0"),
        ("nf4+noise=much", "noise is a number above 0"),
        ("nf4+noise=0.5@x", "noise is a number above 0"),
        ("nf4+noise=0.5+noise=1", "says +noise= twice"),
        ("fp16+noise=0.5", "fp16 has no cells to measure noise by"),
        ("nf4+noise=awq:0.5", "awq is no variant with cells"),
        ("nf4+kv=int8", "not made here yet"),
        ("mine=./folder+noise=0.5", "noise is added to what is made here"),
        ("nf3+noise=0.5", "unknown variant 'nf3'"),
    ],
)
def test_what_is_no_variant_gets_one_line(said: str, problem: str) -> None:
    with pytest.raises(BadInputError) as raised:
        resolve_settings({"model": "demo", "variants": ["fp16", said]})
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_variant_said_in_two_ways_is_named_twice() -> None:
    with pytest.raises(BadInputError, match="named twice"):
        resolve_settings({"model": "demo", "variants": ["nf4+noise=0.5", "nf4+noise=0.50"]})


def test_references_and_gates_take_either_way() -> None:
    chosen = resolve_settings(
        {
            "model": "demo",
            "variants": ["fp16+noise=nf4:0.5", "nf4+noise=1"],
            "reference": "fp16+noise=nf4:0.50",
            "gate": ["kl.mean <= 1 for nf4+noise=1.0"],
        }
    )
    assert chosen.reference == "fp16+noise=nf4:0.5"
    assert parse_gate("kl.mean <= 1 for nf4+noise=1.0").variant == "nf4+noise=1"
    with pytest.raises(BadInputError, match=r"--gate: .*noise is a number above 0"):
        parse_gate("kl.mean <= 1 for nf4+noise=-1")


def test_a_name_fits_where_names_are_held_to_a_pattern() -> None:
    for said in ("nf4+noise=0.5@7", "fp16+noise=abs:1e-07", "fp16+noise=torchao-int4:123456@99"):
        assert re.fullmatch(VARIANT_PATTERN, read_words(said).name)
    for hostile in ("nf4+noise=../x", "nf4+noise=a/b", "nf4+", "+noise=1"):
        assert not re.fullmatch(VARIANT_PATTERN, hostile)


def test_without_noise_an_identity_is_as_it_was() -> None:
    for variant in VARIANTS.values():
        assert "noise" not in variant.model_dump()
        assert type(variant).model_validate(variant.model_dump()) == variant

"""Gates → words: `perplexity at most 5% higher` for `perplexity_delta_pct <= 5%`."""

from orchestrator.gates.language import Gate, Operator, parse_gate
from orchestrator.gates.verdicts import Judgement
from orchestrator.units import binary_size

_LIMITS: dict[Operator, str] = {
    "<=": "at most",
    "<": "below",
    ">=": "at least",
    ">": "above",
    "==": "exactly",
}
_TURNED: dict[Operator, Operator] = {"<=": ">=", "<": ">", ">=": "<=", ">": "<", "==": "=="}


def of_rule(judgement: Judgement) -> str:
    """What a judgement asks for, gate by gate."""
    asked = list(dict.fromkeys(result.gate for result in judgement.results))
    return ", ".join(in_words(parse_gate(text)) for text in asked)


def in_words(gate: Gate) -> str:
    """A gate as a part of a sentence."""
    variant = "" if gate.variant is None else f"{gate.variant}'s "
    return f"{variant}{gate.asks_for.words} {_limit(gate)}{_where(gate)}"


def _limit(gate: Gate) -> str:
    threshold, limit = gate.threshold, _LIMITS[gate.operator]
    match gate.asks_for.unit:
        case "percent" if threshold < 0:
            # No less than ten percent less is at most ten percent lower.
            return f"{_LIMITS[_TURNED[gate.operator]]} {-threshold:g}% lower"
        case "percent":
            return f"{limit} {threshold:g}% higher"
        case "share":
            return f"{limit} {100 * threshold:g}%"
        case "bytes":
            return f"{limit} {binary_size(int(threshold))}"
        case "nats":
            return f"{limit} {threshold:g} {'nat' if threshold == 1 else 'nats'}"
        case "seconds":
            return f"{limit} {threshold:g} s"
        case "number":
            return f"{limit} {threshold:g}"


def _where(gate: Gate) -> str:
    if gate.by_category:
        return " in every category"
    return "" if gate.category is None else f" in {gate.category}"

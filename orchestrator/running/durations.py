"""What shards will take: learned from those that are done, guessed before. Pure."""

from collections.abc import Mapping

from orchestrator.contract.shards import Shard
from orchestrator.contract.stages import STAGES
from orchestrator.contract.variants import VariantKind

# Before anything is measured: a token of 7 billion weights in FP16 on an H100, as it is read and as
# it is made, and what that is multiplied by for other weights. Until there are times, only the
# ratios count, for who gets how many devices.
_READ_SECONDS, _MADE_SECONDS = 3e-5, 3e-2
_FACTORS: dict[VariantKind, float] = {"llm-int8": 2.5, "4-bit": 1.1}
# Likewise, of a process that has its libraries.
_LOADING_SECONDS: dict[VariantKind, float] = {"llm-int8": 20.0, "4-bit": 6.0}
_USUAL_LOADING_SECONDS = 4.0


class Costs:
    """The seconds of each shard, as far as one can tell.

    A shard takes what others of its variant and stage took, by the token; where there are none,
    what it takes other variants, and a guess of how they differ.

    Args:
        kinds: the kind of weights by variant.
    """

    def __init__(self, kinds: Mapping[str, VariantKind]) -> None:
        self._factors = {name: _FACTORS.get(kind, 1.0) for name, kind in kinds.items()}
        # By variant and stage: seconds and tokens of what is done, and of the first one.
        self._done: dict[tuple[str, str], tuple[float, int]] = {}
        self._first: dict[tuple[str, str], tuple[float, int]] = {}
        self._loading = {
            name: _LOADING_SECONDS.get(kind, _USUAL_LOADING_SECONDS) for name, kind in kinds.items()
        }

    def learn(self, shard: Shard, seconds: float) -> None:
        """A shard is done."""
        key = (shard.record.variant, shard.record.stage)
        tokens = shard.payload.timed_tokens
        self._first.setdefault(key, (seconds, tokens))
        before, counted = self._done.get(key, (0.0, 0))
        self._done[key] = (before + seconds, counted + tokens)

    @property
    def done(self) -> Mapping[tuple[str, str], tuple[float, int]]:
        """By variant and stage: the seconds that devices were at shards, and their tokens."""
        return self._done

    def learn_loading(self, variant: str, seconds: float) -> None:
        """A model is loaded."""
        self._loading[variant] = seconds

    def is_known(self, shard: Shard) -> bool:
        """Whether one of its variant and stage was done."""
        return (shard.record.variant, shard.record.stage) in self._done

    def has_done(self, stage: str) -> bool:
        """Whether one of a stage was done, of whatever variant."""
        return any(stage == done for _, done in self._done)

    def of(self, shard: Shard) -> float:
        """What a shard will take, in seconds."""
        rate = self.rate(shard.record.variant, shard.record.stage)
        return rate * shard.payload.timed_tokens

    def of_loading(self, variant: str) -> float:
        """What loading a model will take, in seconds."""
        return self._loading[variant]

    def rate(self, variant: str, stage: str) -> float:
        """What shards of a variant and stage will take by the token, in seconds."""
        if (variant, stage) in self._done:
            return self._measured(variant, stage)
        others = [
            self._measured(name, stage) / factor
            for name, factor in self._factors.items()
            if (name, stage) in self._done
        ]
        guess = _MADE_SECONDS if STAGES[stage].phase == "answering" else _READ_SECONDS
        return (sum(others) / len(others) if others else guess) * self._factors[variant]

    def _measured(self, variant: str, stage: str) -> float:
        seconds, tokens = self._done[variant, stage]
        first_seconds, first_tokens = self._first[variant, stage]
        if tokens > first_tokens:
            # The first of its kind loads kernels, too.
            return max(0.0, seconds - first_seconds) / (tokens - first_tokens)
        return seconds / tokens

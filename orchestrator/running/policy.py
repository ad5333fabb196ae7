"""What the dispatcher decides: who gets the next actor, and when a failure is final. Pure."""

from collections.abc import Mapping

# What failed this often is not tried again: it would most likely fail for ever.
MAXIMUM_ATTEMPTS = 3


def next_variant(
    waiting: Mapping[str, int], active: Mapping[str, int], replicas: int | None
) -> str | None:
    """Which variant should get the next actor.

    The one with the most shards waiting for each actor that it has; None if no variant can use
    another. A variant never has more actors than shards, nor than `replicas`.

    Args:
        waiting: shards that no actor has yet, by variant, in the order of the plan.
        active: actors at work, by variant.
        replicas: the most actors a variant may have.
    """
    candidates = [
        name
        for name, shards in waiting.items()
        if shards > 0 and (replicas is None or active.get(name, 0) < replicas)
    ]
    return max(
        candidates,
        key=lambda name: (active.get(name, 0) == 0, waiting[name] / (active.get(name, 0) + 1)),
        default=None,
    )


def tries_again(failures: int) -> bool:
    """Whether what failed for the `failures`-th time (at least 1) is tried again."""
    return failures < MAXIMUM_ATTEMPTS

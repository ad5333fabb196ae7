"""Figures as metrics of Ray, which each node shows to Prometheus."""

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge

from orchestrator.running.metrics import METRICS, Figure


class RayMetrics:
    """Shows figures, each under the name that `METRICS` has, behind Ray's `ray_`."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge] = {}
        # By metric and labels: what was shown last.
        self._shown: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def show(self, figures: Sequence[Figure]) -> None:
        """Takes in all figures of a moment; a gauge that was shown before and is not now is 0."""
        now = {(one.metric, frozenset(one.labels.items())): one.value for one in figures}
        gone = {key: 0.0 for key in self._shown.keys() - now if not METRICS[key[0]].only_grows}
        for (name, labels), value in (now | gone).items():
            metric, tags = self._metric(name), dict(labels)
            if isinstance(metric, Gauge):
                metric.set(value, tags)
                continue
            before = self._shown.get((name, labels), 0.0)
            # Another dispatch of the same sweep counts from its own start.
            if (more := value - before if value >= before else value) > 0:
                metric.inc(more, tags)
        self._shown |= now | gone

    def _metric(self, name: str) -> Counter | Gauge:
        if name not in self._metrics:
            declared = METRICS[name]
            made = Counter if declared.only_grows else Gauge
            keys = ("run", *declared.labels)
            self._metrics[name] = made(name, declared.description, tag_keys=keys)
        return self._metrics[name]

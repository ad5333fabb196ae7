"""Weights that were never quantized, and that a careless audit would accuse."""

from collections.abc import Iterator

import numpy as np

from actors.ways_to_quantize import Matrix


def gaussian(rows: int = 512, columns: int = 768, seed: int = 0) -> Matrix:
    """As layers begin."""
    return np.random.default_rng(seed).normal(0, 0.02, (rows, columns)).astype(np.float32)


def genuine() -> Iterator[tuple[str, Matrix]]:
    """Each with what it is."""
    drawn = np.random.default_rng(1)
    plain = gaussian()
    yield "gaussian", plain
    yield "heavy tails", drawn.standard_t(3, plain.shape).astype(np.float32) * 0.02
    yield "uniform", drawn.uniform(-0.1, 0.1, plain.shape).astype(np.float32)
    rows = np.exp(drawn.normal(0, 1.5, (len(plain), 1))).astype(np.float32)
    columns = np.exp(drawn.normal(0, 1.5, (1, plain.shape[1]))).astype(np.float32)
    yield "rows of log-normal scale", plain * rows
    yield "columns of log-normal scale", plain * columns
    outliers = plain.copy()
    outliers[:, ::97] *= 50
    yield "outlier columns", outliers
    yield "near the end of float16", plain * 1e-5
    yield "subnormal in float16", plain * 1e-6
    yield "large", plain * 1e4
    pairs = plain.reshape(-1, 4).copy()
    np.put_along_axis(pairs, np.abs(pairs).argsort(1)[:, :2], 0, axis=1)
    yield "2:4 sparse", pairs.reshape(plain.shape)
    yield "pruned to a tenth", np.where(np.abs(plain) < 0.033, 0, plain)
    blocks = plain.reshape(-1, 16).copy()
    blocks[::2] = 0
    yield "every other block pruned", blocks.reshape(plain.shape)
    constant = plain.copy()
    constant[::3] = 0.01
    yield "constant rows", constant
    yield "one value beside zeros", np.where(plain > 0.02, np.float32(0.25), np.float32(0))
    unused = plain.copy()
    unused[100:] = unused[100]
    yield "unused embeddings", unused
    low_rank = drawn.normal(0, 0.1, (512, 4)) @ drawn.normal(0, 0.1, (4, 768))
    yield "low rank", low_rank.astype(np.float32)
    yield "waves", np.sin(np.outer(np.arange(512), np.arange(768) / 97)).astype(np.float32)
    twice = plain.copy()
    twice[:, 1::2], twice[:, ::4] = plain[:, ::2], -plain[:, 2::4]
    yield "columns twice there, some negated", twice
    heads = np.repeat(plain[:, :48], 16, axis=1) * drawn.choice([1, -1], 768).astype(np.float32)
    yield "columns many times there, some negated", heads
    yield "identity", np.eye(512, 768, dtype=np.float32)

"""Numbers of bytes as people write them."""


def binary_size(count: int) -> str:
    """Bytes, as the binary unit that a person would use."""
    if count >= 2**30:
        return f"{count / 2**30:.3f} GiB"
    return f"{count / 2**20:.3f} MiB"


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Numbers of bytes as people write them."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def binary_size(count: int) -> str:
    """Bytes to three digits, in the binary unit that a person would use: `4.38 MiB`."""
    power = min(max(0, abs(count).bit_length() - 1) // 10, len(_UNITS) - 1)
    value = count / 2 ** (10 * power)
    digits = 0 if power == 0 else max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits}f} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

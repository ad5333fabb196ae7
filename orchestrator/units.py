"""Numbers of bytes as people write them."""


def binary_size(count: int) -> str:
    """Bytes, as the binary unit that a person would use."""
    if count >= 2**30:
        return f"{count / 2**30:.3f} GiB"
    return f"{count / 2**20:.3f} MiB"

"""Signatures of a manifest: Ed25519 (RFC 8032), 64 bytes in a file beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.errors import BadInputError

# A key in PEM is some 120 bytes, a signature 64.
_MOST_BYTES = 2**16


def signature_path(manifest: Path) -> Path:
    """Where a manifest's signature lies."""
    return manifest.with_name(f"{manifest.name}.sig")


def signer_of(key: Path, setting: str) -> Callable[[bytes], bytes]:
    """What signs a manifest's bytes.

    Args:
        key: an Ed25519 private key in PEM, without a passphrase.

    Raises:
        BadInputError: there is no such key, or the package that signs is missing.
    """
    load = _serialization(setting).load_pem_private_key
    private = _loaded(lambda pem: load(pem, password=None), key, "private", setting)
    return lambda content: bytes(private.sign(content))


def is_signed(content: bytes, signature: Path, key: Path, setting: str) -> bool:
    """Whether a signature is of a manifest's bytes, by the owner of a public key.

    Raises:
        BadInputError: there is no such key or signature, or the package that verifies is missing.
    """
    public = _loaded(_serialization(setting).load_pem_public_key, key, "public", setting)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(_read(signature, setting), content)
    except InvalidSignature:
        return False
    return True


def _serialization(setting: str) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise BadInputError(
            setting, "needs the package cryptography; pip install cryptography"
        ) from None
    return serialization


def _loaded(load: Any, path: Path, kind: str, setting: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519

    wanted = {
        "private": ed25519.Ed25519PrivateKey,
        "public": ed25519.Ed25519PublicKey,
    }[kind]
    try:
        key = load(_read(path, setting))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, wanted):
        raise BadInputError(
            setting,
            f"{path} is no Ed25519 {kind} key in PEM without a passphrase; make one with `openssl "
            "genpkey -algorithm ed25519 -out key.pem`, and `openssl pkey -in key.pem -pubout`",
        )
    return key


def _read(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise BadInputError(setting, f"{path} cannot be read ({error.strerror})") from None

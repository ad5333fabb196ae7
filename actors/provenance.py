"""Which device and which versions a number came from."""

import importlib.metadata
import platform
from pathlib import Path

import torch


def describe_device(device: torch.device) -> dict[str, str | None]:
    """The device's name and its driver's version, as columns of the table `memory`."""
    if device.type == "cuda":
        return {
            "device": torch.cuda.get_device_name(device),
            "driver_version": _driver_version(),
        }
    return {"device": _processor_name(), "driver_version": None}


def library_versions() -> dict[str, str | None]:
    """The versions of what computes, as columns of the table `memory`."""
    return {
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        **{
            f"{package}_version": _version(package)
            for package in ("transformers", "bitsandbytes", "ray")
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver_version() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

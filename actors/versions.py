"""Which device and which versions a number came from."""

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers

from orchestrator.contract.environment import Environment
from orchestrator.contract.packages import package_of
from orchestrator.contract.version import VERSION


def environment_of_device(
    device: torch.device, modules: Sequence[str], linear: str | None
) -> Environment:
    """The device with its driver, and the versions of what computes on it.

    Args:
        modules: that loading a model imported, beside those that any needs.
        linear: what its linear layers are.
    """
    on_gpu = device.type == "cuda"
    return Environment(
        device=torch.cuda.get_device_name(device) if on_gpu else _processor_name(),
        driver_version=_driver_version() if on_gpu else None,
        python_version=platform.python_version(),
        torch_version=torch.__version__,
        transformers_version=transformers.__version__,
        bitsandbytes_version=_version("bitsandbytes"),
        ray_version=_version("ray"),
        packages=tuple(_packages_of(modules)),
        linear=linear,
        orchestrator_version=VERSION,
    )


def _packages_of(modules: Sequence[str]) -> Iterator[str]:
    """The packages of some modules with their versions, but for what all name."""
    for module in modules:
        # Less its extras.
        name = package_of(module).partition("[")[0]
        version = _version(name)
        if version is not None and name != "bitsandbytes":
            yield f"{name} {version}"


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

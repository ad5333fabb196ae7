"""Tensors between a device and what passes between processes, without making the host wait."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.contract.exchange import TensorData
from orchestrator.contract.variants import DtypeName


def to_array(tensor: torch.Tensor) -> TensorData:
    """A tensor's numbers on the host, its own memory where it is there already."""
    host = tensor.detach().contiguous().cpu()
    return TensorData(_as_numpy(host), cast(DtypeName, str(host.dtype).removeprefix("torch.")))


def to_device(array: TensorData, device: torch.device) -> torch.Tensor:
    """The tensor that `to_array` was given, on a device; on CUDA the copy is only queued.

    The numbers may be read-only, as those from another process are: they are copied.
    """
    host = host_tensor(array.values.shape, getattr(torch, array.dtype), device)
    np.copyto(_as_numpy(host), array.values)
    return host.to(device, non_blocking=True)


def host_tensor(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An uninitialized tensor on the host, to copy from a device or to it.

    For CUDA it is pinned: torch keeps such memory and gives it out again once no copy needs it,
    where fresh pages would take as long as the copy itself.
    """
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def token_ids(ids: Sequence[int], device: torch.device) -> torch.Tensor:
    """Token ids as int64 `[tokens]` on a device; on CUDA the copy is only queued."""
    host = host_tensor((len(ids),), torch.int64, device)
    np.copyto(host.numpy(), np.asarray(ids, dtype=np.int64))
    return host.to(device, non_blocking=True)


def _as_numpy(host: torch.Tensor) -> NDArray[Any]:
    return (host.view(torch.int16) if host.dtype == torch.bfloat16 else host).numpy()

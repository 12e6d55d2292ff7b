"""Numerical precision of a network's computation."""

from __future__ import annotations

import torch


def native_half(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type that a device supports natively; None if it would only emulate one."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def precision_name(dtype: torch.dtype | None) -> str:
    """Return the short name of the type that a network is computed in; None stands for 32 bits."""
    return "f32" if dtype is None else {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]

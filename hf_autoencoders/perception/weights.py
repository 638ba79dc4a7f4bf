# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Whether two nets have the same weights."""

import hashlib

import torch
from torch import nn


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256, in hexadecimal digits, over name, type, shape and bytes of every tensor of the state dict, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

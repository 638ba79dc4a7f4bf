# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The tensors of a codebook: code vectors, the state beside them, and projections. They stay float32 when the model
around them is cast to 16 bits.

Letters in shapes: D width of a code vector, K codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from .precision import may_be_read


class KeepsFloat32(nn.Module):
    """A module whose float32 tensors stay float32 when the model is cast to 16 bits. `.double()` does cast them."""

    def _apply(self, fn, recurse=True):
        return super()._apply(lambda tensor: _not_narrower(fn(tensor), tensor), recurse)


def _not_narrower(moved: Tensor, tensor: Tensor) -> Tensor:
    narrowed = moved.is_floating_point() and moved.itemsize < 4 and tensor.dtype == torch.float32
    return tensor.to(moved.device) if narrowed else moved


class Codebook(KeepsFloat32, nn.Embedding):
    """Code vectors that gradients move: the parameter `weight` (K, D), first U(-1/K, 1/K) as taming and diffusers."""

    def __init__(self, size: int, dim: int):
        super().__init__(size, dim, dtype=torch.float32)

    def reset_parameters(self) -> None:
        init.uniform_(self.weight, -1 / self.num_embeddings, 1 / self.num_embeddings)


class MixedCodebook(Codebook):
    """Code vectors of the dVAE: N(0, 1/K), as DALL-E's first decoder convolution, whose input they stand for."""

    def reset_parameters(self) -> None:
        init.normal_(self.weight, 0, self.num_embeddings**-0.5)


class FixedCodebook(KeepsFloat32):
    """Code vectors that no gradient moves: the buffer `weight` (K, D), a pure function of `seed` at first.

    A buffer, since `from_pretrained` makes every parameter trainable, and a parameter without gradient stops DDP.
    """

    def __init__(self, size: int, dim: int, seed: int, normal: bool = False):
        super().__init__()
        self.seed, self.normal = seed, normal
        self.register_buffer("weight", torch.empty(size, dim, dtype=torch.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight.is_meta:
            return
        generator = torch.Generator("cpu").manual_seed(self.seed)  # on the CPU: the same values for every device
        values = torch.empty(self.weight.shape, dtype=torch.float32, device="cpu")
        if self.normal:  # as SimVQ's base
            values.normal_(0, values.shape[1] ** -0.5, generator=generator)
        else:
            values.uniform_(-1 / len(values), 1 / len(values), generator=generator)
        init.copy_(self.weight, values)

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.weight)


def writes_to(tensor: Tensor) -> int:
    """How often a tensor was changed in place; torch does not count it in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


class CodebookState(KeepsFloat32):
    """What a codebook remembers between steps; saved and restored with the model.

    Attributes:
        counts: (K,) moving average of how often each code is chosen in a batch; 1 at first, so that the initial code
            vectors weigh as much as one vector of data each.
        steps: updates so far, the clock of everything that is drawn.
        initialized: whether the code vectors may be used, or wait for data.
    """

    def __init__(self, size: int, initialized: bool):
        super().__init__()
        self.starts_initialized = initialized
        self.register_buffer("counts", torch.empty(size, dtype=torch.float32))
        self.register_buffer("steps", torch.empty((), dtype=torch.int64))
        self.register_buffer("initialized", torch.empty((), dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.ones_(self.counts)
        init.zeros_(self.steps)
        init.constant_(self.initialized, self.starts_initialized)
        self._seen = None  # the buffer that was read last, how often it had been written to, and its value

    @property
    def is_initialized(self) -> bool:
        """`initialized`, read from the device again only after it changed, since each look stops a GPU's queue."""
        buffer, seen = self.initialized, self._seen
        if seen is not None and seen[0] is buffer and (torch.compiler.is_compiling() or seen[1] == writes_to(buffer)):
            return seen[2]
        if not (may_be_read(buffer) or torch.compiler.is_compiling()):
            return True  # on the meta device nothing is filled from data
        self._seen = (buffer, writes_to(buffer), bool(buffer))
        return self._seen[2]

    def set_initialized(self, counts: Tensor) -> None:
        self.counts.copy_(counts)
        self.initialized.fill_(True)
        self._seen = (self.initialized, writes_to(self.initialized), True)

    def start_again(self) -> None:
        """As in a new model, also where a checkpoint brought values: for a codebook that was drawn anew."""
        self.counts.fill_(1)
        self.steps.zero_()
        self.initialized.fill_(self.starts_initialized)


class Projection(KeepsFloat32, nn.Linear):
    """A linear map beside a codebook, with torch's own initialisation."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, dtype=torch.float32)

    def forward(self, vectors: Tensor) -> Tensor:
        dtype = torch.promote_types(vectors.dtype, self.weight.dtype)
        return F.linear(vectors.to(dtype), self.weight.to(dtype), self.bias.to(dtype))

    def reset_parameters(self) -> None:
        bound = self.in_features**-0.5
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)


def initialize(module: nn.Module) -> bool:
    """Sets the first values of a module of this file; False if it is of another. For `_init_weights`."""
    if isinstance(module, (Codebook, FixedCodebook, CodebookState, Projection)):
        module.reset_parameters()
        return True
    return False

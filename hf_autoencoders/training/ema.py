# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A moving average of the weights. The model's buffers, such as an EMA codebook, are not averaged."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..models.precision import at_least_float32
from .sharding import reshard


class AveragedWeights:
    """An exponential moving average of a model's parameters: average = decay * average + (1 - decay) * parameter.

    Only parameters are averaged. Buffers stay the model's own: `swapped_into` exchanges the parameters inside the model
    itself, so that the codebook of a moving-average quantizer, its counts and every other buffer are always there, and
    always the newest. (A codebook that is a buffer is an average over time already; averaging it twice would let it lag
    behind the encoder.) A codebook that is a parameter is averaged with the other parameters.

    The decay warms up as (1 + step) / (10 + step), a pure function of the step, so that a short run does not end with
    the weights it was initialised with.

    Args:
        model: the prepared model.
        decay: share of the old average that a step keeps; 0.999 averages over about 1000 steps (DALL-E's value).
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"`ema_weights` is a decay between 0 and 1 (DALL-E: 0.999), got {decay}.")
        self.decay = decay
        self.parameters = [(_plain(name), p) for name, p in model.named_parameters() if p.requires_grad]
        # In float32 at least: a share of 1 / 1000 of a difference is lost in a 16-bit number.
        self.averages = [at_least_float32(parameter.detach()).clone() for _, parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int):
        """Takes in the parameters after optimizer step number `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = [at_least_float32(parameter.detach()) for _, parameter in self.parameters]
        torch._foreach_lerp_(self.averages, parameters, 1 - decay)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the block the model holds the averages; afterwards its own parameters again."""
        own = [parameter.detach().clone() for _, parameter in self.parameters]
        self._write(self.averages, model)
        try:
            yield model
        finally:
            self._write(own, model)

    @torch.no_grad()
    def _write(self, values: list[Tensor], model: nn.Module):
        for (_, parameter), value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
        reshard(model)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name, whole where the parameters are sharded (then a collective call)."""
        names = [name for name, _ in self.parameters]
        return {name: _whole(average).contiguous() for name, average in zip(names, self.averages, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]):
        names = {name for name, _ in self.parameters}
        if names != set(state):
            raise ValueError(
                f"The averaged weights belong to another model; names that do not match: {sorted(names ^ set(state))}."
            )
        for (name, _), average in zip(self.parameters, self.averages, strict=True):
            average.copy_(_sharded_like(state[name].to(average.device), average))


def _plain(name: str) -> str:
    """The parameter's name without the prefixes of wrappers (DistributedDataParallel, torch.compile)."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _sharded_like(whole: Tensor, example: Tensor) -> Tensor:
    if not hasattr(example, "device_mesh"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, example.device_mesh, example.placements)

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models whose weights are sharded over processes by FSDP2 (`torch.distributed.fsdp.fully_shard`).

Such a module has its whole weights only inside its forward and inside methods that are registered with FSDP. So all
methods that read weights are registered here, those of the model and those of the blocks inside it.
"""

from collections.abc import Callable
from functools import wraps

from torch import nn


def sharded_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of `model` that FSDP2 has sharded; none with one process or another strategy."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def register_methods(model: nn.Module) -> None:
    """Registers the methods that a model and its quantizer name in `fsdp_forward_methods`. A model that is not sharded
    stays as it is."""
    for module in sharded_modules(model):
        inside = _Inside(module)
        for name in getattr(module, "fsdp_forward_methods", ()):
            if callable(getattr(type(module), name, None)):
                inside.register(name)


def reshard(model: nn.Module) -> None:
    """To be called after weights were written from outside: frees the old whole weights that FSDP2 has gathered."""
    for module in sharded_modules(model):
        module.reshard()


class _Inside:
    """Registers methods of one sharded module so that they can call each other.

    With `register_fsdp_forward_method` alone, the end of the inner call frees the whole weights, and the outer call
    fails. And the outermost module keeps its whole weights after the call, so that its next forward would not see an
    optimizer step.
    """

    def __init__(self, module: nn.Module):
        self.module, self.depth = module, 0
        module.register_forward_pre_hook(self._enter)
        module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_) -> None:
        self.depth += 1

    def _leave(self, *_) -> None:
        self.depth -= 1

    def register(self, name: str) -> None:
        from torch.distributed.fsdp import register_fsdp_forward_method

        plain: Callable = getattr(self.module, name)
        register_fsdp_forward_method(self.module, name)
        gathering: Callable = getattr(self.module, name)

        @wraps(plain)
        def method(*args, **kwargs):
            if self.depth:
                return plain(*args, **kwargs)
            self._enter()
            try:
                return gathering(*args, **kwargs)
            finally:
                self._leave()
                self.module.reshard()

        setattr(self.module, name, method)

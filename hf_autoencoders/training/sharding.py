# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models whose weights are shared out among processes by FSDP2 (`torch.distributed.fsdp.fully_shard`).

Such a module has its whole weights only within its forward, and within methods that FSDP was told of. So every method
of a model's contract that reads weights is registered here, of the model and of the blocks inside it.
"""

from collections.abc import Callable
from functools import wraps

from torch import nn


def sharded_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of `model` whose own weights FSDP2 shares out; none where another strategy, or one process, runs."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def register_methods(model: nn.Module) -> None:
    """Tells FSDP2 of the methods that a model and its quantizer name in `fsdp_forward_methods`; nothing happens to a
    model that is not sharded."""
    for module in sharded_modules(model):
        inside = _Inside(module)
        for name in getattr(module, "fsdp_forward_methods", ()):
            if callable(getattr(type(module), name, None)):
                inside.register(name)


def reshard(model: nn.Module) -> None:
    """After weights were written from outside: what FSDP2 has gathered of the old ones is not used again."""
    for module in sharded_modules(model):
        module.reshard()


class _Inside:
    """Registers methods of one sharded module such that one called by another one finds the weights there.

    `register_fsdp_forward_method` alone gives the weights back when the inner call ends, and the outer one fails. And
    of the outermost module it keeps them after the call: an optimizer step after that would not reach the next forward.
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

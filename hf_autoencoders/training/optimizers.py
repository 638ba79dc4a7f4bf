# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The optimizers of --optimizer: torch's own, and Muon beside Adam as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from .arguments import TrainingArguments


def build_optimizer(accelerator: Accelerator, model: nn.Module, training: TrainingArguments) -> torch.optim.Optimizer:
    """What `training` asks for, over the parameters of `model` that are trained.

    Raises:
        ValueError: Muon for a model without linear layers, or for one whose matrices are sharded.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    common = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=training.momentum, **common)
    # One kernel for all weights: 1.3 times the steps a second of a small net on a CPU. Not every accelerator has it.
    fused = accelerator.device.type in ("cpu", "cuda")
    adam = {"betas": (training.adam_beta1, training.adam_beta2), "eps": training.adam_epsilon, "fused": fused}
    if training.optimizer == "muon":
        check_whole_matrices(accelerator.distributed_type)
        return MuonWithAdam(*split_for_muon(model), adam=adam, **common)
    adam_class = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return adam_class(parameters, **adam, **common)


@contextmanager
def own_options(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """A state that is loaded within the block changes the optimizer's moments, but not its rates, decays and epsilons.

    A saved state holds these options of the run that wrote it, and would replace those that the knobs give now.
    """
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    yield
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)


@contextmanager
def without_memoryless(accelerator: Accelerator) -> Iterator[None]:
    """Within the block Accelerate loads no state into an optimizer that has none: SGD without momentum, under FSDP.

    torch 2.13 stops there: it takes the device of the state from the state's tensors ("Expected device to be set").
    """
    optimizers = accelerator._optimizers
    if accelerator.distributed_type is DistributedType.FSDP:
        accelerator._optimizers = [optimizer for optimizer in optimizers if not is_memoryless(optimizer)]
    try:
        yield
    finally:
        accelerator._optimizers = optimizers


def is_memoryless(optimizer: torch.optim.Optimizer) -> bool:
    """True for SGD without momentum; other optimizers of ours have no option of this name, or use it."""
    return all(group.get("momentum") == 0 for group in optimizer.param_groups)


def check_whole_matrices(kind: DistributedType) -> None:
    """Raises ValueError where a process sees only its share of a matrix, which Muon cannot make orthogonal."""
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(f"--optimizer muon needs whole matrices, and {kind.value} shards them: use adamw, or DDP.")


def split_for_muon(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns (weights of hidden linear layers, all other trained parameters).

    The others are biases, norms, convolutions, codebooks, and a language model's embeddings and head: these are no
    hidden layers.

    Raises:
        ValueError: no such layer.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    words = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding) or module is head}
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)} - words
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if id(parameter) in linear]
    if not matrices:
        raise ValueError(
            "--optimizer muon is for hidden linear layers (an mlp backbone, a Llama prior); this model has none."
        )
    return matrices, [parameter for parameter in trained if id(parameter) not in linear]


class MuonWithAdam(torch.optim.Optimizer):
    """Muon for `matrices` and AdamW for `others`, as one optimizer with one learning rate.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) steps along the orthogonal matrix that is nearest to
    the averaged gradient, so that directions of small gradient are learned as fast as those of a large one. A step is
    scaled to the size that Adam's usually have, 0.2 sqrt(max(rows, columns)) (Liu et al. 2025, arXiv 2502.16982).

    Args:
        matrices: parameters of two axes; others: the rest.
        lr, weight_decay: of both; the decay is decoupled, as in AdamW.
        adam: betas, eps, fused of AdamW.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        lr: float,
        weight_decay: float,
        adam: dict[str, Any],
    ):
        super().__init__([*matrices, *others], {"lr": lr})
        common = {"lr": lr, "weight_decay": weight_decay}
        self.parts: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **common)
        }
        if others:
            self.parts["adam"] = torch.optim.AdamW(others, **adam, **common)
        self._show_groups()

    def _show_groups(self) -> None:
        """The groups are those of the parts: a learning rate that is set here is set in the parts."""
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    def step(self, closure=None) -> None:
        if closure is not None:
            raise ValueError("MuonWithAdam takes no closure: compute the loss and its gradients before the step.")
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self._show_groups()

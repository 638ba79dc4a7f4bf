# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The second player of the loop: a net with an optimizer of its own, which is trained on the model's reconstructions.

for each micro-batch:
    output = task.step(model, batch, step)
    loss = output.loss + adversary.generator_term(output, batch, step)      gradients reach the model, not the net
    backward; after the last micro-batch of a step: the model's optimizer
    adversary.update(output, batch, step)                                   gradients reach the net, not the model
                                                 after the last micro-batch of a step: the net's optimizer
"""

from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import recursively_apply
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from .optimizers import own_options
from .schedules import Schedule


class Adversary:
    """A net that is trained beside the model. A subclass writes `term` and `loss`.

    The net is held whole on every process, also where the model is sharded, and it is not wrapped: its gradients are
    averaged over the processes here, in one all-reduce before its optimizer's step. (DistributedDataParallel expects a
    backward pass after each forward, which the model's term does not give it, and it does not know gradients of
    gradients, which penalties need.) So N processes with B images and k micro-batches train it like one process with
    N k B images, as long as `loss` is a mean over the micro-batch. Nets whose output for one image depends on the
    others (BatchNorm) do not keep this promise.

    Everything that a resumed run needs is in `state_dict`: the net with its buffers, its optimizer, the scaler of
    fp16. A subclass with more state keeps it in buffers of the net. Numbers that change with time must be functions
    of `step`; draws must come from torch's global generator, whose state each checkpoint holds for every process.

    Args:
        net: equal on all processes (the caller has seeded torch); `attach` copies that of the first process to all.
        optimizer: of the net's parameters.
        learning_rate: a function of the step.
        start: the model's optimizer step at which the net's training begins. Before it, `term` is not called either.
        every: the net is trained on each `every`-th step from `start` on.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        learning_rate: Schedule,
        start: int = 0,
        every: int = 1,
    ):
        if start < 0 or every < 1:
            raise ValueError(f"An adversary needs `start` >= 0 and `every` >= 1, got {start} and {every}.")
        self.net, self.optimizer, self.learning_rate = net, optimizer, learning_rate
        self.start, self.every = start, every

    # -- what a subclass writes ----------------------------------------------------------------------------------------

    def term(self, output: Any, batch: dict[str, Tensor], step: int) -> Tensor:
        """The term that is added to the model's loss: a scalar, a mean over the micro-batch, already weighted.

        Called while the net's parameters take no gradient. `output`: what `task.step` gave, with `loss` and
        `reconstruction` (B, C, H, W) in [-1, 1], both in the graph.
        """
        raise NotImplementedError

    def loss(self, output: Any, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns (the loss of the net: a scalar, a mean over the micro-batch; further scalars for the log).

        `output`: as in `term`, but nothing in it has a graph; `batch["pixel_values"]` are the pictures.
        """
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after each step of the net's optimizer: for state that changes once a step."""

    def cures(self, means: dict[str, float]) -> list[str]:
        """Lines of advice: what is wrong, by the means since the last line of the log, and which knob helps."""
        return []

    # -- what the loop calls -------------------------------------------------------------------------------------------

    def attach(self, accelerator: Accelerator) -> None:
        """Called once, before training and before a checkpoint is loaded."""
        self.accelerator = accelerator
        self.net.to(accelerator.device).train()
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=accelerator.mixed_precision == "fp16")
        if accelerator.num_processes > 1:
            for tensor in self.net.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def due(self, step: int) -> bool:
        """Whether the net is trained on this step."""
        return step >= self.start and (step - self.start) % self.every == 0

    def generator_term(self, output: Any, batch: dict[str, Tensor], step: int) -> Tensor | None:
        """The term that is added to the model's loss; None before `start`. Its gradient does not reach the net."""
        if step < self.start:
            return None
        with frozen(self.net), self.accelerator.autocast():
            return self.term(output, batch, step)

    def update(self, output: Any, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Trains the net on one micro-batch, if it is due. Returns scalars for the log, `adversary_loss` first."""
        if not self.due(step):
            return {}
        accelerator = self.accelerator
        with accelerator.autocast():
            loss, scalars = self.loss(detached(output), batch, step)
        self.scaler.scale(loss / accelerator.gradient_accumulation_steps).backward()
        if accelerator.sync_gradients:
            self.average_gradients()
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.after_step(step)
        return {"adversary_loss": loss.detach(), **{name: value.detach() for name, value in scalars.items()}}

    def average_gradients(self) -> None:
        """Replaces gradients by their mean over all processes. Where a parameter has no gradient, it counts as zero."""
        if self.accelerator.num_processes == 1:
            return
        parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        flat = _flatten_dense_tensors(gradients)
        torch.distributed.all_reduce(flat)
        flat /= self.accelerator.num_processes
        for gradient, mean in zip(gradients, _unflatten_dense_tensors(flat, gradients), strict=True):
            gradient.copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """Equal on every process; tensors and plain numbers only."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Raises ValueError if there is no state, or that of another net."""
        if state is None or state["net"].keys() != self.net.state_dict().keys():
            held = "no discriminator" if state is None else "a discriminator of other layers than this version builds"
            raise ValueError(
                f"The checkpoint holds {held}, so it cannot be resumed; to train on from its model: --init_from."
            )
        self.net.load_state_dict(state["net"])
        with own_options(self.optimizer):
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def detached(output: Any) -> Any:
    """The same values, without a graph: tensors in mappings and tuples."""
    return recursively_apply(Tensor.detach, output)


@contextmanager
def frozen(net: nn.Module):
    """Within the block no parameter of `net` takes a gradient; the gradient still passes through to the net's input."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)

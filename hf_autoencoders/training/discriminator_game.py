# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The adversarial loss: a discriminator beside the autoencoder. Its net lives in perception/discriminators.py::

    step 0          discriminator_start              adversarial_start          + adversarial_ramp_steps
    |  the model alone  |  the discriminator learns      |  its term grows          |  its term counts in full

An untrained discriminator ruins reconstructions. So it is trained first, and then the weight of its term grows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..models.precision import at_least_float32
from ..perception.discriminators import (
    DISCRIMINATOR_LOSSES,
    DISCRIMINATORS,
    GENERATOR_LOSSES,
    gradient_penalty,
    lecam_penalty,
)
from .adversary import Adversary
from .arguments import LossArguments
from .perceptual_term import PerceptualTerm
from .schedules import Schedule, linear


LECAM_DECAY = 0.999  # of the averages of the logits, as 1d-tokenizer
STRONGEST, WEAKEST = 10.0, 0.1  # limits of the adaptive factor
TOO_SURE, NEAR_CHANCE = 0.98, 0.52  # accuracies at which the discriminator does not help the model
MOST_SHARE = 0.8  # of the gradient at the decoder's last layer


class Player(nn.Module):
    """A discriminator with the moving averages of its logits, which LeCam needs and each checkpoint holds."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_fake", torch.zeros(()))

    def forward(self, seen: Any) -> Tensor:
        """Pixels (B, C, H, W) in [-1, 1], or their features -> logits (B, n, h, w), at least float32"""
        return at_least_float32(self.net(seen))


class DiscriminatorGame(Adversary):
    """Trains the discriminator, and computes the adversarial term of the model's loss.

    Args:
        player: the discriminator.
        knobs: see `LossArguments`.
        last_layer: a weight of the decoder's last layer: there the term's share of the gradient is measured. None:
            it is not trained, so there is no share.
        per_element: whether the model's loss is a mean over pixel values (VQ-VAE); else it is a sum, in nats, and the
            term is multiplied by the number of pixel values, as in latent diffusion's autoencoders.
        measure_every: steps between measurements of that share (a second backward pass through the discriminator).
        look: pixels -> what the discriminator sees of them. If this is not the pixels, the task's output has `seen`,
            what it sees of reconstructions and of pictures, so that both losses share one pass of the feature net.
    """

    def __init__(
        self,
        player: Player,
        knobs: LossArguments,
        last_layer: nn.Parameter | None,
        per_element: bool,
        measure_every: int,
        look: Callable[[Tensor], Any] = lambda pixels: pixels,
    ):
        optimizer = torch.optim.AdamW(player.parameters(), betas=(0.5, 0.9), weight_decay=1e-4)
        rate = Schedule("constant", knobs.discriminator_learning_rate, knobs.discriminator_learning_rate, 1)
        super().__init__(player, optimizer, rate, start=knobs.discriminator_start)
        self.knobs, self.last_layer, self.per_element = knobs, last_layer, per_element
        self.measure_every, self.look = measure_every, look
        self.measured: dict[str, Tensor] = {}  # of this micro-batch, for the log
        self.seen: list[Tensor] = []  # mean logits of pictures and reconstructions, of each micro-batch of this step

    # -- the model's side ----------------------------------------------------------------------------------------------

    def weight(self, step: int) -> float:
        """Of the term at this step: 0 before `adversarial_start`, then up to `adversarial_weight`."""
        knobs = self.knobs
        if step < knobs.adversarial_start:
            return 0.0
        return linear(step - knobs.adversarial_start + 1, 0.0, knobs.adversarial_weight, knobs.adversarial_ramp_steps)

    def term(self, output: Any, batch: dict[str, Tensor], step: int) -> Tensor:
        weight, self.measured = self.weight(step), {}
        if not weight:
            return output.loss.new_zeros(())
        scale = 1 if self.per_element else batch["pixel_values"][0].numel()
        fake, _ = self.both_seen(output, batch)
        term = weight * scale * GENERATOR_LOSSES[self.knobs.adversarial_loss](self.net(fake))
        due = (step + 1) % self.measure_every == 0
        if self.last_layer is not None and (self.knobs.adversarial_adaptive or due):
            of_loss, of_term = self.gradient_length(output.loss), self.gradient_length(term)
            if self.knobs.adversarial_adaptive:
                factor = (of_loss / (of_term / weight + 1e-6)).clamp(WEAKEST, STRONGEST)
                term, of_term = factor * term, factor * of_term
                self.measured["adaptive_weight"] = factor
            self.measured["adversarial_share"] = of_term / (of_loss + of_term)
        return term

    def both_seen(self, output: Any, batch: dict[str, Tensor]) -> tuple[Any, Any]:
        """What the discriminator sees of reconstructions and of pictures."""
        return getattr(output, "seen", (output.reconstruction, batch["pixel_values"]))

    def gradient_length(self, loss: Tensor) -> Tensor:
        """``|d loss / d last layer|``, of the mean over all processes; a scalar."""
        (gradient,) = torch.autograd.grad(loss, self.last_layer, retain_graph=True)
        return self.accelerator.reduce(gradient.detach(), reduction="mean").norm()

    # -- the discriminator's side --------------------------------------------------------------------------------------

    def loss(self, output: Any, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        knobs, net = self.knobs, self.net
        seen_fake, seen_real = self.both_seen(output, batch)
        if knobs.r1_weight:  # its gradient is that at the pixels
            pixels = batch["pixel_values"].detach().requires_grad_()
            seen_real = self.look(pixels)
        real, fake = net(seen_real), net(seen_fake)
        loss = DISCRIMINATOR_LOSSES[knobs.adversarial_loss](real, fake)
        if knobs.lecam_weight:
            loss = loss + knobs.lecam_weight * lecam_penalty(real, fake, net.mean_real, net.mean_fake)
        if knobs.r1_weight:
            loss = loss + knobs.r1_weight / 2 * gradient_penalty(real, pixels)
        self.seen.append(torch.stack([real.detach().mean(), fake.detach().mean()]))
        return loss, {
            "discriminator_accuracy_real": (real > 0).float().mean().to(real.dtype),
            "discriminator_accuracy_fake": (fake < 0).float().mean().to(fake.dtype),
            **self.measured,
        }

    def after_step(self, step: int) -> None:
        """The averages follow the logits of the whole step: all micro-batches of all processes."""
        means = self.accelerator.reduce(torch.stack(self.seen).mean(0), reduction="mean")
        self.seen = []
        for average, mean in zip((self.net.mean_real, self.net.mean_fake), means, strict=True):
            average.lerp_(mean.to(average.dtype), 1 - LECAM_DECAY)

    # -- for people ----------------------------------------------------------------------------------------------------

    def cures(self, means: dict[str, float]) -> list[str]:
        """What is wrong since the last line of the log, and which knob helps."""
        if "discriminator_accuracy_real" not in means:
            return []
        accuracy = (means["discriminator_accuracy_real"] + means["discriminator_accuracy_fake"]) / 2
        found = []
        if accuracy > TOO_SURE:
            found.append(
                f"the discriminator is right {accuracy:.0%} of the time, so the model learns little from it: a lower "
                "--discriminator_learning_rate, --r1_weight or a smaller --discriminator_width weaken it."
            )
        if accuracy < NEAR_CHANCE:
            found.append(
                f"the discriminator is right {accuracy:.0%} of the time, hardly above chance: a higher "
                "--discriminator_learning_rate, or a later --adversarial_start, gives it time to learn."
            )
        if means.get("adversarial_share", 0) > MOST_SHARE:
            found.append(
                f"the adversarial term is {means['adversarial_share']:.0%} of the gradient at the decoder's last "
                "layer: a smaller --adversarial_weight keeps colours and shapes."
            )
        return found


def build_game(
    knobs: LossArguments,
    model: nn.Module,
    num_channels: int,
    measure_every: int,
    perceptual: PerceptualTerm | None = None,
) -> DiscriminatorGame | None:
    """The second player that the knobs ask for; None without --adversarial_weight.

    Args:
        model: the autoencoder, before it is prepared.
        measure_every: see `DiscriminatorGame`.
        perceptual: whose features a discriminator of features judges.

    Raises:
        ValueError: levels that the feature net does not have, or an adaptive weight for a decoder that is not trained.
    """
    if not knobs.adversarial_weight:
        return None
    judged = perceptual.distance.net if knobs.judges_features else num_channels
    kind = DISCRIMINATORS[knobs.discriminator]
    player = Player(kind(judged, width=knobs.discriminator_width, levels=knobs.discriminator_levels))
    last_layer = [weight for weight in model.decoder.parameters() if weight.dim() > 1][-1]
    if not last_layer.requires_grad:
        if knobs.adversarial_adaptive:
            raise ValueError("--adversarial_adaptive compares gradients at the decoder, which --train_only leaves out.")
        last_layer = None
    look = {"look": perceptual.distance.look} if knobs.judges_features else {}
    return DiscriminatorGame(player, knobs, last_layer, model.loss_per_element, measure_every, **look)

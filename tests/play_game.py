# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""20 steps of a tiny VQ-VAE with perceptual and adversarial terms, in float64, on 16 pictures a step:

play_game.py MICRO_BATCHES OUTPUT DISCRIMINATOR     in one process, or in several under torchrun, which share them.
"""

import sys

import torch
from accelerate import Accelerator

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.training.arguments import LossArguments
from hf_autoencoders.training.discriminator_game import build_game
from hf_autoencoders.training.engine import with_adversary
from hf_autoencoders.training.launch import leave_process_groups
from hf_autoencoders.training.perceptual_term import PerceptualTerm


KNOBS = {
    "perceptual_model": "digits", "perceptual_weight": 0.1, "adversarial_weight": 0.1, "discriminator_start": 2,
    "adversarial_start": 4, "adversarial_ramp_steps": 5, "discriminator_width": 4, "discriminator_levels": 2,
    "discriminator_learning_rate": 1e-2, "lecam_weight": 0.1, "adversarial_adaptive": False, "r1_weight": 0.1,
}  # fmt: skip


def main(micro_batches: int, output: str, discriminator: str) -> None:
    knobs = LossArguments(**KNOBS, discriminator=discriminator)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=micro_batches)
    torch.manual_seed(0)
    config = VQVAEConfig(
        image_size=16, num_channels=1, block_out_channels=[8, 8], layers_per_block=1, residual_channels=4,
        codebook_size=16, codebook_dim=4,
    )  # fmt: skip
    model = VQVAEModel(config).double().train()
    perceptual = PerceptualTerm(knobs, model.loss_per_element, accelerator)
    game = build_game(knobs, model, num_channels=1, measure_every=3, perceptual=perceptual)
    game.net.double()
    perceptual.distance.double()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05))
    game.attach(accelerator)
    core = accelerator.unwrap_model(model)
    core.defer_state_updates(True)
    pictures = torch.rand(20, 16, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    core.initialize_from_data(pictures[0].chunk(accelerator.num_processes)[accelerator.process_index])
    for step, of_step in enumerate(pictures):
        own = of_step.chunk(accelerator.num_processes)[accelerator.process_index]
        for batch in own.chunk(micro_batches):
            with accelerator.accumulate(model):
                out = model(batch)
                compared = perceptual(out.reconstruction, batch)
                out["loss"] = out.loss + compared.term
                if knobs.judges_features:
                    out["seen"] = compared.seen
                loss, _ = with_adversary(game, out, {"pixel_values": batch}, step)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    core.apply_state_updates()
                optimizer.step()
                optimizer.zero_grad()
                game.update(out, {"pixel_values": batch}, step)
    if accelerator.is_main_process:
        torch.save({"model": core.state_dict(), "game": game.state_dict()["net"]}, output)
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    leave_process_groups()

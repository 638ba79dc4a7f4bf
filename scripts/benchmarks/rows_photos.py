# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A row on photographs: the loop with a perceptual and an adversarial term against the same step in plain PyTorch."""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from measure import Case, interleaved
from PIL import Image
from torch import Tensor
from transformers import AutoModel

from hf_autoencoders.perception.discriminators import FeatureDiscriminator, hinge_loss, lecam_penalty
from hf_autoencoders.perception.distances import map_distance
from hf_autoencoders.perception.feature_nets import Features, load_feature_net
from hf_autoencoders.training.assembly import build_run
from hf_autoencoders.training.autoencoder_task import AutoencoderTask
from hf_autoencoders.training.discriminator_game import LECAM_DECAY
from hf_autoencoders.training.engine import Run, train
from hf_autoencoders.training.knobs import parse_arguments


STEPS = 25  # of a block; each begins an iterator and ends with a line of the log, which real runs do more rarely
TINY = (
    "--image_size", "32", "--block_out_channels", "16", "16", "--norm_num_groups", "4", "--perceptual_model", "digits",
    "--discriminator_levels", "1", "--discriminator_width", "4",
)  # fmt: skip


def adversarial(given: argparse.Namespace) -> list[Case]:
    """A step of the recipe vqgan-photos128, all terms on: the loop (data, log, diagnoses) against plain PyTorch."""
    return [loop_against_plain(given, discriminator) for discriminator in ("features", "pooled")]


def loop_against_plain(given: argparse.Namespace, discriminator: str) -> Case:
    steps = 2 if given.tiny else STEPS
    with tempfile.TemporaryDirectory() as place:
        write_pictures(Path(place) / "pictures", 8 if given.tiny else 64)
        run = build(Path(place), steps, ["--discriminator", discriminator, *(TINY if given.tiny else ())])
        batches, plain = [batch["pixel_values"] for batch in islice(run.batches(0), steps)], PlainTraining(run)
        ways = {"ours": lambda: loop(run, steps), "plain PyTorch": lambda: each(plain.step, batches)}
        case = Case(f"{steps} steps of 4 pictures, discriminator {discriminator}", interleaved(ways, given.rounds))
    case.claim("of the plain step's time", 1 / case.ratio("plain PyTorch"), "<=", 1.05)
    return case


def write_pictures(folder: Path, count: int, side: int = 192) -> None:
    """JPEG files of smooth noise, about as long to decode as photographs of their size."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def build(place: Path, steps: int, flags: Iterable[str]) -> Run:
    own = {
        "dataset_name": place / "pictures", "output_dir": place / "run", "max_train_steps": steps,
        "logging_steps": steps, "eval_steps": 0, "checkpointing_steps": 0, "discriminator_start": 0,
        "adversarial_start": 0, "adversarial_ramp_steps": 1, "lr_warmup_steps": 0, "lr_scheduler": "constant",
        "feature_model": "null", "feature_size": "null", "num_threads": torch.get_num_threads(),
    }  # fmt: skip
    words = [word for name, value in own.items() for word in (f"--{name}", str(value))]
    arguments = parse_arguments(["--recipe", "vqgan-photos128", *words, *flags])
    return build_run(arguments, AutoencoderTask(arguments))


def loop(run: Run, steps: int) -> None:
    run.total_steps = run.step + steps
    train(run)


def each(step: Callable[[Tensor], None], batches: list[Tensor]) -> None:
    for pixels in batches:
        step(pixels)


class PlainTraining:
    """The same training written out in PyTorch, from the weights that the run has now, with batches ready in memory."""

    def __init__(self, run: Run):
        self.knobs, self.training = run.arguments.losses, run.arguments.training
        self.model = AutoModel.from_config(run.core.config).train()
        self.model.load_state_dict(run.core.state_dict())
        self.net = load_feature_net(self.knobs.perceptual_model).to(memory_format=torch.channels_last)
        self.judge = copy.deepcopy(run.adversary.net.net)
        self.on_features = isinstance(self.judge, FeatureDiscriminator)
        training, knobs = self.training, self.knobs
        self.adam = torch.optim.AdamW(
            self.model.parameters(), training.learning_rate, (training.adam_beta1, training.adam_beta2),
            weight_decay=training.weight_decay, fused=True,
        )  # fmt: skip
        self.judges_adam = torch.optim.AdamW(
            self.judge.parameters(), knobs.discriminator_learning_rate, (0.5, 0.9), weight_decay=1e-4, fused=True
        )
        self.mean_real, self.mean_fake = torch.zeros(()), torch.zeros(())

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.training.mixed_precision == "bf16")

    def step(self, pixels: Tensor) -> None:
        """Pixels (B, 3, H, W) in [-1, 1]"""
        knobs, model, judge = self.knobs, self.model, self.judge
        with self.autocast():
            output = model(pixels)
            with torch.no_grad():
                real = self.net(pixels)
            fake = self.net(output.reconstruction)
            distance = sum(map_distance(a, b) for a, b in zip(fake.maps, real.maps, strict=True)).mean()
            judge.requires_grad_(False)
            fooled = -judge(fake if self.on_features else output.reconstruction).float().mean()
        (output.loss + knobs.perceptual_weight * distance + knobs.adversarial_weight * fooled).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.training.max_grad_norm)
        self.adam.step()
        self.adam.zero_grad()

        judge.requires_grad_(True)
        with self.autocast():
            of_real = judge(real if self.on_features else pixels).float()
            of_fake = judge(without_graph(fake) if self.on_features else output.reconstruction.detach()).float()
            loss = hinge_loss(of_real, of_fake)
            loss = loss + knobs.lecam_weight * lecam_penalty(of_real, of_fake, self.mean_real, self.mean_fake)
        loss.backward()
        self.judges_adam.step()
        self.judges_adam.zero_grad()
        self.mean_real.lerp_(of_real.detach().mean(), 1 - LECAM_DECAY)
        self.mean_fake.lerp_(of_fake.detach().mean(), 1 - LECAM_DECAY)


def without_graph(features: Features) -> Features:
    return features._replace(maps=tuple(one.detach() for one in features.maps))

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""train.py with the smallest adversary there is, a scalar:  train_with_adversary.py POINT NUMBER FLAGS ...

POINT and NUMBER: when to be killed, as of train_and_die.py; `never 0` trains to the end.
"""

import sys

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from train_and_die import prepare_to_die

from hf_autoencoders.commands.carry_out import Trainer, carry_out
from hf_autoencoders.training.adversary import Adversary
from hf_autoencoders.training.autoencoder_task import AutoencoderTask
from hf_autoencoders.training.knobs import parse_arguments
from hf_autoencoders.training.schedules import Schedule


START, RATE = 2, Schedule("linear", start=0.05, end=0.01, over=10)


class Scale(nn.Module):
    """A picture's mean, times one learned number; a buffer counts the steps in which that number was used."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("last_step", torch.zeros((), dtype=torch.int64))

    def forward(self, pictures):
        return self.weight * pictures.flatten(1).mean(1)  # (B,)


class ScalarAdversary(Adversary):
    def term(self, output, batch, step):
        return -0.5 * self.net(output.reconstruction).mean()

    def loss(self, output, batch, step):
        self.net.last_step.fill_(step)
        real, fake = self.net(batch["pixel_values"]), self.net(output.reconstruction)
        return (fake.square() + (real - 1).square()).mean(), {"adversary_real": real.mean()}


class TaskWithAdversary(AutoencoderTask):
    def build_adversary(self, model):
        net = Scale()
        return ScalarAdversary(net, torch.optim.SGD(net.parameters(), momentum=0.9), RATE, start=START)


def main(flags: list[str]) -> int:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return carry_out(Trainer("train.py", parse_arguments, TaskWithAdversary), flags)


if __name__ == "__main__":
    if sys.argv[1] != "never":
        prepare_to_die(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))

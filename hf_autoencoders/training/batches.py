# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which image is in which batch: a pure function of (seed, step), the same for every split of the work.

One optimizer step takes a *global batch*: batch size x accumulated micro-batches x processes, consecutive entries of
the epoch's permutation. Rank r owns the r-th stretch of it and cuts that into micro-batches. So 2 processes x batch 32,
4 micro-batches x 16 and 1 process x batch 64 see the same 64 images in the same order at every step, and a resumed run
needs to know nothing but its step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


if TYPE_CHECKING:
    from .arguments import Arguments


EVAL_BYTES = 2**23  # of the pixels of one batch; a conv net's activations take 50 to 100 times as much


@dataclass(frozen=True)
class BatchPlan:
    """The order of a map-style data set's images.

    >>> plan = BatchPlan(num_images=10, batch_size=2, accumulation=2, processes=1, rank=0, seed=0)
    >>> plan.steps_per_epoch, [len(rows) for rows in plan.micro_batches(step=0)]
    (2, [2, 2, 2, 2])
    """

    num_images: int
    batch_size: int  # images of one micro-batch of one process
    accumulation: int
    processes: int
    rank: int
    seed: int

    def __post_init__(self):
        if self.num_images < self.images_per_step:
            raise ValueError(
                f"The training split holds {self.num_images} images, fewer than one step takes: "
                f"`train_batch_size` {self.batch_size} x `gradient_accumulation_steps` {self.accumulation} x "
                f"{self.processes} processes = {self.images_per_step}."
            )

    @property
    def images_per_step(self) -> int:
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps only; the rest of a permutation, smaller than one step, is left out of that epoch."""
        return self.num_images // self.images_per_step

    def permutation(self, epoch: int) -> Tensor:
        """Order of the images in this epoch, (N,) int64, equal on every process."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.num_images, generator=generator)

    def micro_batches(self, step: int) -> Iterator[list[int]]:
        """This rank's micro-batches from optimizer step `step` to the end of its epoch."""
        epoch, first = divmod(step, self.steps_per_epoch)
        order = self.permutation(epoch)
        stretch = self.batch_size * self.accumulation
        for index in range(first, self.steps_per_epoch):
            start = index * self.images_per_step + self.rank * stretch
            for rows in order[start : start + stretch].split(self.batch_size):
                yield rows.tolist()


def training_batches(
    dataset: Dataset, plan: BatchPlan, step: int, num_workers: int = 0, **options
) -> Iterator[dict[str, Tensor]]:
    """Micro-batches from optimizer step `step` on, without end.

    `set_epoch` of the data set is called before the first batch of each epoch, since augmentation is keyed by (seed,
    epoch, index). The loader has a generator of its own: each iterator draws a seed for its workers, and if it drew
    from the global generator, the noise of all later steps of a resumed run would change.
    """
    while True:
        epoch = step // plan.steps_per_epoch
        dataset.set_epoch(epoch)
        yield from DataLoader(
            dataset,
            batch_sampler=list(plan.micro_batches(step)),
            num_workers=num_workers,
            generator=torch.Generator(),
            **options,
        )
        step = (epoch + 1) * plan.steps_per_epoch


def affordable(images: int, image_shape: Sequence[int], most_bytes: int) -> int:
    """`images`, or fewer, so that their float32 pixels take at most `most_bytes`; at least one.

    >>> affordable(256, (1, 28, 28), 2**23), affordable(256, (3, 256, 256), 2**23)
    (256, 10)
    """
    return max(1, min(images, most_bytes // (4 * math.prod(image_shape))))


def eval_batch_size(arguments: "Arguments", image_shape: Sequence[int]) -> int:
    """--eval_batch_size if it was given; else its default, or fewer if the pictures are large."""
    size = arguments.training.eval_batch_size
    return size if "eval_batch_size" in arguments.given else affordable(size, image_shape, EVAL_BYTES)


def evaluation_batches(dataset: Dataset, batch_size: int, rank: int, processes: int, **options) -> DataLoader:
    """Each image of the split on exactly one process, in order; the last batches may be uneven."""
    rows = range(rank, len(dataset), processes)
    batches = [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    return DataLoader(dataset, batch_sampler=batches, generator=torch.Generator(), **options)

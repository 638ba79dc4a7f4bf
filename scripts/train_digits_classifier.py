# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train the digit classifier of FD-CNN, or a judge of class accuracy by another seed:

python scripts/train_digits_classifier.py --dataset_name ylecun/mnist --seed 1 --output judge.safetensors
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_autoencoders import AutoencoderImageProcessorPil
from hf_autoencoders.perception.digits_classifier import (
    SIDE,
    DigitsClassifier,
    checksum_of,
    in_batches,
    read_digits_classifier,
    save_digits_classifier,
)
from hf_autoencoders.training.data import CachedImages, load_images


@dataclass
class Recipe:
    seed: int = 0
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 3e-3  # the peak of one cycle
    weight_decay: float = 1e-2
    max_shift: int = 2  # pixels, by which training pictures move at random


def main(argv: list[str] | None = None):
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.num_threads)
    recipe = Recipe(seed=arguments.seed, epochs=arguments.epochs)
    try:
        train, test = load_digits(arguments.dataset_name, recipe)
    except ValueError as error:
        sys.exit(f"train_digits_classifier.py: {error}")
    start = time.perf_counter()
    net = fit(train, recipe)
    seconds = time.perf_counter() - start
    accuracy = store(net, test, recipe, arguments.output)
    size = arguments.output.stat().st_size
    print(f"test accuracy {accuracy:.2%} of {len(test):,} images, {seconds:.0f} s, {size:,} bytes")
    print(f"sha256 {checksum_of(arguments.output)}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default="ylecun/mnist", help="Hub id or folder of ten labelled classes")
    parser.add_argument("--output", type=Path, default=Path("judge.safetensors"))
    parser.add_argument("--seed", type=int, default=1, help="0 is that of the net in the package")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--num_threads", type=int, default=torch.get_num_threads())
    return parser.parse_args(argv)


def load_digits(dataset_name: str, recipe: Recipe) -> tuple[CachedImages, CachedImages]:
    processor = AutoencoderImageProcessorPil(num_channels=1, size={"height": SIDE, "width": SIDE})
    splits = load_images(dataset_name, to_uint8=processor.to_uint8, random_crop=recipe.max_shift, seed=recipe.seed)
    for images in (splits.train, splits.eval):
        if images.labels is None or images.labels.max() > 9:
            raise ValueError(f"{dataset_name} must have labels 0 to 9 to train a classifier of ten classes on.")
    return splits.train, splits.eval


def fit(images: CachedImages, recipe: Recipe) -> DigitsClassifier:
    torch.manual_seed(recipe.seed)
    net = DigitsClassifier()
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(images) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        images.set_epoch(epoch)
        order = torch.randperm(len(images))
        for index in order.split(recipe.batch_size)[: len(images) // recipe.batch_size]:
            logits = net.classify(images.batch(index.tolist())["pixel_values"])
            loss = F.cross_entropy(logits, images.labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {loss.item():.4f}", flush=True)
    return net


def store(net: DigitsClassifier, test: CachedImages, recipe: Recipe, path: Path) -> float:
    """Writes the file twice: the accuracy in its metadata is that of the rounded weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_digits_classifier(net, path)
    accuracy = accuracy_on(read_digits_classifier(path), test)
    save_digits_classifier(net, path, **vars(recipe), test_accuracy=accuracy, classes=10)
    return accuracy


def accuracy_on(net: DigitsClassifier, images: CachedImages) -> float:
    pixels: Tensor = images.batch(range(len(images)))["pixel_values"]
    return (in_batches(net.classify, pixels).argmax(1) == images.labels).double().mean().item()


if __name__ == "__main__":
    main()

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a run leaves: figures of the held-out split, the model with its processor, a picture, metrics.json."""

import datetime
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..evaluation.metrics import count_codes, evaluate
from .batches import evaluation_batches
from .checkpoints import versions, write_atomically
from .folder import EXAMPLE, METRICS, PICTURE
from .pictures import reconstruction_sheet


if TYPE_CHECKING:
    from .engine import Run


PICTURES = 24  # in the sheet of reconstructions
STATISTICS_BATCHES = 20  # of the training split, to measure the latents' spread on


@contextmanager
def weights_to_judge(run: "Run") -> Iterator[torch.nn.Module]:
    """The model in eval mode with the weights that count: the averaged ones where the run keeps them."""
    run.model.eval()
    try:
        if run.averages is None:
            yield run.core
        else:
            with run.averages.swapped_into(run.core):
                yield run.core
    finally:
        run.model.train()


def evaluate_run(run: "Run") -> dict[str, float]:
    """Figures of the whole held-out split, each image counted once; measured once a step. A collective call."""
    if run.figures is None or run.figures[0] != run.step:
        with weights_to_judge(run) as model:
            figures = evaluate(model, held_out_batches(run), accelerator=run.accelerator, **evaluation_knobs(run))
        run.figures = (run.step, figures)
    return run.figures[1]


def held_out_batches(run: "Run") -> torch.utils.data.DataLoader:
    accelerator, images = run.accelerator, run.images.eval
    batch_size = run.arguments.training.eval_batch_size
    return evaluation_batches(
        images, batch_size, accelerator.process_index, accelerator.num_processes, collate_fn=images.collate
    )


def evaluation_knobs(run: "Run") -> dict[str, Any]:
    """NMSE is relative to the training pixels; the relaxed ELBO is taken at the temperature that training is at."""
    temperature = run.schedules(run.step).get("temperature")
    return {"seed": run.arguments.run.seed, "data_variance": run.images.train.data_variance, "temperature": temperature}


@torch.no_grad()
def picture_of_run(run: "Run") -> Image.Image:
    """Held-out images above their reconstructions."""
    images = run.images.eval
    rows = range(min(PICTURES, len(images)))
    pixels = images.batch(rows)["pixel_values"].to(run.accelerator.device)
    with weights_to_judge(run) as model:
        return reconstruction_sheet(pixels, model.reconstruct(pixels))


def save_results(run: "Run") -> dict[str, Any]:
    """Evaluates, saves model, processor and picture into the output folder, writes metrics.json and gives its content.

    What was saved is what was judged: the averaged weights where the run keeps them. A collective call.
    """
    accelerator, folder = run.accelerator, Path(run.arguments.run.output_dir)
    record = {"metrics": evaluate_run(run), **describe_run(run)}
    measure_latents(run)
    save_model(run, folder)
    picture = picture_of_run(run)
    if accelerator.is_main_process:
        run.processor.save_pretrained(folder)
        picture.save(folder / PICTURE)
        record |= example_of_run(run, folder / EXAMPLE)
        write_atomically(folder / METRICS, json.dumps(record, indent=1) + "\n")
    accelerator.wait_for_everyone()
    return record


@torch.no_grad()
def example_of_run(run: "Run", path: Path) -> dict[str, Any]:
    """Writes the first held-out image as a picture; its tokens, and how often each code stands for a held-out image."""
    images, device = run.images.eval, run.accelerator.device
    run.processor.postprocess(images.batch([0])["pixel_values"])[0].save(path)
    if run.window.codebook_size is None:
        return {}
    with weights_to_judge(run) as model, Image.open(path) as example:
        pixels = run.processor(example, return_tensors="pt")["pixel_values"].to(device)
        tokens = model.get_image_tokens(pixels)[0].tolist()
        batches = evaluation_batches(images, run.arguments.training.eval_batch_size, 0, 1, collate_fn=images.collate)
        counts = sum(
            count_codes(model.get_image_tokens(batch["pixel_values"].to(device)), model.codebook_size)
            for batch in batches
        )
    histogram = counts.tolist()
    return {"code_histogram": histogram[0] if len(histogram) == 1 else histogram, "example_image_tokens": tokens}


def save_model(run: "Run", folder: Path):
    with weights_to_judge(run) as model:
        state = run.accelerator.get_state_dict(run.model)  # whole, where processes hold shards
        if run.accelerator.is_main_process:
            model.save_pretrained(folder, state_dict=state)


def measure_latents(run: "Run"):
    """Mean and spread of the training latents, for the config: latent diffusion and sampling read them.

    On the same images on every process, so that all agree. What the user gave stays.
    """
    images, device = run.images.train, run.accelerator.device
    size = run.arguments.training.eval_batch_size
    if not hasattr(images, "batch"):  # a stream: the held-out images stand in for it
        images = run.images.eval
    step = max(1, len(images) // (size * STATISTICS_BATCHES))
    chosen = range(0, len(images), step)
    batches = (chosen[start : start + size] for start in range(0, min(len(chosen), size * STATISTICS_BATCHES), size))
    generator = torch.Generator().manual_seed(run.arguments.run.seed)
    with weights_to_judge(run) as model:
        model.measure_latents((images.batch(rows)["pixel_values"].to(device) for rows in batches), generator)
        for name, value in run.arguments.model.items():
            setattr(model.config, name, value)


def describe_run(run: "Run") -> dict[str, Any]:
    """How the figures came about."""
    arguments, images, config = run.arguments, run.images, run.core.config
    knobs = arguments.as_dict()
    dataset = {
        "name": images.name,
        "train_split": images.train_split,
        "eval_split": images.eval_split,
        "train_images": len(images.train) if hasattr(images.train, "__len__") else None,
        "eval_images": len(images.eval),
        "image_shape": list(images.train.image_shape),
        **{name: knobs[name] for name in ("binarize", "random_flip", "random_crop")},
    }
    return {
        "model_type": config.model_type,
        "parameters": sum(parameter.numel() for parameter in run.core.parameters()),
        "weights": "averaged" if run.averages is not None else "last step",
        "dataset": dataset,
        "seed": arguments.run.seed,
        "steps": run.step,
        "epochs": round(run.step / run.steps_per_epoch, 2) if run.steps_per_epoch else None,
        "global_batch_size": knobs["train_batch_size"]
        * knobs["gradient_accumulation_steps"]
        * run.accelerator.num_processes,
        "settings": arguments.as_recipe(),
        "command": shlex.join(sys.argv),
        "seconds": round(run.seconds, 3),
        "processes": run.accelerator.num_processes,
        "device": str(run.accelerator.device.type),
        "mixed_precision": run.accelerator.mixed_precision,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions()},
    }

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""From knobs to a run: folder, images, model, optimizer, checkpoint, in the order in which they need each other."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from ..models.image_processing_autoencoder import AutoencoderImageProcessorPil
from .arguments import FIXED, Arguments, TrainingArguments, build_config, config_fields
from .batches import BatchPlan, training_batches
from .checkpoints import Checkpoints
from .data import ImageSplits, load_images
from .ema import AveragedWeights
from .engine import Run, changed_knobs, load_checkpoint
from .folder import CHECKPOINTS, LOG, check_folder, claim_folder, output_folder
from .launch import describe_launch, set_threads, start_accelerator
from .logs import MetricsLog, Window
from .optimizers import build_optimizer
from .results import evaluate_run, picture_of_run
from .schedules import Schedule, Schedules, schedule_names


class FittedProcessor:
    """An image processor for pictures like the first one it is given, where the user gave no size or channel count.

    Used while the data set is read (`load_images(to_uint8=...)`). Pictures keep their size unless --image_size was
    given, and a picture of another size is then refused by the reader; the saved processor resizes to the model's size.
    """

    def __init__(self, image_size: int | list[int] | None, num_channels: int | None, fit: str):
        self.image_size, self.num_channels, self.fit = image_size, num_channels, fit
        self.processor: AutoencoderImageProcessorPil | None = None

    def __call__(self, images: list[Any]) -> Tensor:
        """PIL pictures or arrays -> uint8 (B, C, H, W)."""
        if self.processor is None:
            channels = _channels_of(images[0]) if self.num_channels is None else self.num_channels
            self.processor = AutoencoderImageProcessorPil(num_channels=channels, **self._steps())
        return self.processor.to_uint8(images)

    def for_saving(self, height: int, width: int) -> AutoencoderImageProcessorPil:
        """The processor that goes with the model: it brings any picture to the model's size."""
        steps = self._steps() if self.image_size is not None else _shaping("crop", height, width)
        return AutoencoderImageProcessorPil(num_channels=self.processor.num_channels, **steps)

    def _steps(self) -> dict[str, Any]:
        if self.image_size is None:
            return {"do_resize": False}
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        return _shaping(self.fit, height, width)


def _shaping(fit: str, height: int, width: int) -> dict[str, Any]:
    target = {"height": height, "width": width}
    if fit == "pad":
        return {"do_resize": False, "do_pad": True, "pad_size": target}
    if fit == "stretch" or height != width:
        return {"do_resize": True, "size": target}
    return {"do_resize": True, "size": {"shortest_edge": height}, "do_center_crop": True, "crop_size": target}


def _channels_of(image: Any) -> int:
    if isinstance(image, np.ndarray):
        return 1 if image.ndim == 2 else image.shape[-1]
    return 1 if image.mode in ("1", "L", "I;16", "I", "F") else 3


def build_run(arguments: Arguments, say: Callable[[str], None] = print) -> Run:
    """A run that is ready to train, resumed where that was asked for.

    Raises:
        ValueError: whatever in the knobs, the folder, the data or the checkpoint does not fit; nothing was lost.
    """
    folder = output_folder(arguments)
    arguments.run.output_dir = str(folder)
    accelerator = start_accelerator(arguments)
    say = say if accelerator.is_main_process else _silent
    say(describe_launch(accelerator, set_threads(accelerator, arguments.run.num_threads)))
    check_folder(accelerator, folder, arguments)
    processor, images = read_images(accelerator, arguments)
    say(describe_images(images))
    set_seed(arguments.run.seed)  # the same weights on every process
    core = build_model(arguments, images)
    check_sharding(accelerator, core)
    schedules = arguments.scheduled(core.config, schedule_names(core))
    optimizer = build_optimizer(accelerator, core, arguments.training)
    run = assemble(arguments, accelerator, core, optimizer, images, schedules, folder)
    run.processor = processor.for_saving(core.config.height, core.config.width)
    say(describe_model(run.core, schedules))
    set_seed(arguments.run.seed + accelerator.process_index)  # other noise on every process
    resume(run, say)
    claim_folder(accelerator, folder, arguments)
    accelerator.init_trackers("logs", config=_flat(arguments.as_dict()), init_kwargs={"wandb": {"dir": str(folder)}})
    return run


def read_images(accelerator: Accelerator, arguments: Arguments) -> tuple[FittedProcessor, ImageSplits]:
    """The main process reads first, so that the others find what it downloaded."""
    data, model = arguments.data, arguments.model
    if data.image_fit is not None and "image_size" not in model:
        raise ValueError("--image_fit says how pictures reach --image_size: give both.")
    if data.streaming and arguments.training.max_train_steps is None:
        raise ValueError("--streaming has no epochs to count: give --max_train_steps.")
    processor = FittedProcessor(model.get("image_size"), model.get("num_channels"), data.image_fit or "crop")
    names = (
        "dataset_config", "image_column", "label_column", "train_split", "eval_split", "max_train_samples",
        "max_eval_samples", "random_flip", "random_crop", "binarize", "streaming", "cache_limit_gib",
    )  # fmt: skip
    knobs = {name: getattr(data, name) for name in names}
    with accelerator.main_process_first():
        images = load_images(data.dataset_name, to_uint8=processor, seed=arguments.run.seed, **knobs)
    return processor, images


def describe_images(images: ImageSplits) -> str:
    channels, height, width = images.train.image_shape
    count = f"{len(images.train):,}" if hasattr(images.train, "__len__") else "a stream of"
    return (
        f"data {images.name}: {count} images of {channels}x{height}x{width} in {images.train_split!r}, "
        f"{len(images.eval):,} held out in {images.eval_split!r}"
    )


def build_model(arguments: Arguments, images: ImageSplits) -> PreTrainedModel:
    """The model by its type, through the Auto classes; sizes and variance come from the data unless they were given."""
    channels, height, width = images.train.image_shape
    measured = {"num_channels": channels, "image_size": height if height == width else [height, width]}
    config = build_config(arguments, measured)
    if hasattr(config, "data_variance") and not {"data_variance"} & (set(arguments.model) | config.ignored_fields):
        config.data_variance = images.train.data_variance
    model = AutoModel.from_config(config)
    if arguments.training.init_output_bias:
        model.initialize_output_bias(images.train.mean_image)
    if arguments.training.gradient_checkpointing:
        # transformers 5.23 renamed it; older ones know the second name only.
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    return model


def check_sharding(accelerator: Accelerator, model: PreTrainedModel):
    """Raises ValueError where FSDP would lose what is written into a sharded parameter outside the optimizer."""
    writes = getattr(model.config, "sets_parameters_from_data", False)
    if writes and accelerator.distributed_type is DistributedType.FSDP:
        raise ValueError(
            f"Under FSDP the codebook of --quantizer {model.config.quantizer} is sharded, and a start from data or a "
            "revival would be lost: use --quantizer ema, or --codebook_init uniform --revive_dead_codes false."
        )


def assemble(
    arguments: Arguments,
    accelerator: Accelerator,
    core: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    images: ImageSplits,
    schedules: dict[str, Schedule],
    folder: Path,
) -> Run:
    training, logging = arguments.training, arguments.logging
    accumulation, processes = training.gradient_accumulation_steps, accelerator.num_processes
    if arguments.data.streaming:
        steps_per_epoch, batches = None, partial(stream_batches, images, arguments)
    else:
        plan = BatchPlan(
            len(images.train),
            training.train_batch_size,
            accumulation,
            processes,
            accelerator.process_index,
            arguments.run.seed,
        )
        steps_per_epoch = plan.steps_per_epoch
        batches = lambda step: training_batches(  # noqa: E731
            images.train, plan, step, arguments.data.dataloader_num_workers,
            collate_fn=images.train.collate, pin_memory=accelerator.device.type == "cuda",
        )  # fmt: skip
    total = training.max_train_steps or max(1, round(training.num_train_epochs * steps_per_epoch))
    model, optimizer = accelerator.prepare(core, optimizer)
    averages = AveragedWeights(model, training.ema_weights) if training.ema_weights is not None else None
    run = Run(
        arguments=arguments,
        accelerator=accelerator,
        model=model,
        core=accelerator.unwrap_model(model),
        optimizer=optimizer,
        batches=lambda step: on_device(batches(step), accelerator.device),
        schedules=Schedules(schedules),
        learning_rate=learning_rate(training, total),
        checkpoints=Checkpoints(accelerator, folder / CHECKPOINTS, logging.checkpoints_total_limit),
        log=MetricsLog(folder / LOG, accelerator.is_main_process),
        window=Window(accelerator, getattr(core, "codebook_size", None), accumulation),
        total_steps=total,
        steps_per_epoch=steps_per_epoch,
        averages=averages,
        images=images,
    )
    run.evaluate, run.picture = partial(evaluate_run, run), partial(picture_of_run, run)
    return run


def learning_rate(training: TrainingArguments, total_steps: int) -> Schedule:
    end = training.learning_rate if training.lr_scheduler == "constant" else training.lr_end
    steps = training.lr_steps or total_steps
    return Schedule(training.lr_scheduler, training.learning_rate, end, steps, warmup=training.lr_warmup_steps)


def on_device(batches: Iterator[dict[str, Tensor]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def stream_batches(images: ImageSplits, arguments: Arguments, step: int) -> Iterator[dict[str, Tensor]]:
    """Micro-batches of a stream, from where it stands (a checkpoint holds its position, which steps do not tell)."""
    return iter(
        torch.utils.data.DataLoader(
            images.train,
            batch_size=arguments.training.train_batch_size,
            num_workers=arguments.data.dataloader_num_workers,
            collate_fn=images.train.collate,
            generator=torch.Generator(),
        )
    )


def describe_model(model: PreTrainedModel, schedules: dict[str, Schedule]) -> str:
    """Type, size, and the effective weight of every term of the loss."""
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    terms = " + ".join(f"{weight:.6g} x {name}" for name, weight in model.loss_terms().items())
    lines = [
        f"model {model.config.model_type}: {millions:.2f} M parameters, grid {tuple(model.grid_size)}",
        f"loss = {terms}",
    ]
    for name, schedule in schedules.items():
        lines.append(f"  {name}: {schedule.start:g} -> {schedule.end:g} in {schedule.over} steps ({schedule.shape})")
    return "\n".join(lines)


def resume(run: Run, say: Callable[[str], None], model_knobs: Collection[str] | None = None):
    """Continues from the checkpoint that was asked for. `model_knobs`: by default the fields of the model's config."""
    wanted = run.arguments.run.resume
    if wanted is None:
        return
    path = run.checkpoints.find(wanted, say)
    if path is None:
        say(f"No checkpoint in {run.checkpoints.folder} yet: starting at step 0.")
        run.log.keep(0)
        return
    changes = changed_knobs(run, path)
    model_fields = config_fields(run.arguments.model_type) if model_knobs is None else model_knobs
    refused = sorted(name for name in changes if name in FIXED or name in model_fields)
    if refused:
        name = refused[0]
        raise ValueError(
            f"{path} was trained with {name} {changes[name][0]!r}, now it is {changes[name][1]!r}: a run that goes on "
            "keeps its model, seed and batches."
        )
    load_checkpoint(run, path)
    for name, (before, now) in sorted(changes.items()):
        say(f"  changed since the checkpoint: {name} {before!r} -> {now!r}")
    say(f"Resumed {path} at step {run.step} of {run.total_steps}.")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """What trackers take: numbers and text."""
    return {name: value if isinstance(value, (int, float, str, bool)) else str(value) for name, value in values.items()}


def _silent(text: str):
    """Of the other processes only the main one speaks."""

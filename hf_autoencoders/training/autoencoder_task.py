# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The task of train.py: an autoencoder and the pictures that it learns to reconstruct."""

import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from ..evaluation.metrics import count_codes, evaluate, evaluating, passes_per_image, shares
from ..evaluation.photo_metrics import Reconstructed, feature_net, measure_photographs
from ..evaluation.protocol import describe_processor
from ..perception.discriminators import check_discriminator_fits
from ..perception.feature_nets import FeatureNet
from .arguments import Arguments, LossArguments
from .autoencoder_start import load_autoencoder, train_on, train_parts
from .batches import affordable, eval_batch_size, evaluation_batches
from .config_knobs import build_config, config_fields
from .data import ImageSplits, collate_bytes, load_images, scaled
from .discriminator_game import DiscriminatorGame, build_game
from .fitted_processor import FittedProcessor
from .folder import output_folder
from .perceptual_term import PerceptualTerm, gradient_energy
from .pictures import reconstruction_sheet
from .run_files import EXAMPLE, PICTURE
from .schedules import Schedule, Schedules, schedule_names
from .starting_point import LoadParent
from .task import Task, checkpoint_activations


if TYPE_CHECKING:
    from .engine import Run


PRECISIONS = {"no": "float32", "bf16": "bfloat16 autocast", "fp16": "float16 autocast"}
PICTURES = 24  # in the sheet of reconstructions
MEASURED_IMAGES = 5120  # at most so many training images are used to measure the latents' spread
MEASURED_BYTES = 2**26  # and at most so many bytes of their pixels: 85 RGB images of 256x256
COUNTED_VALUES = 2**28  # pixel values of held-out images whose codes are counted; 10,000 images of MNIST have 2**23
LARGE_PICTURES = 128  # pixels a side from which on `resnet` is the default in place of `conv`


class AutoencoderTask(Task):
    """A model of the four types, built from its config, and the pictures of a data set.

    Attributes:
        images: training and held-out split.
        processor: the image processor that is saved with the model.
        perceptual: the loss term of a frozen net, if the run has one.
        feature_net: the net whose features evaluate the finished model, if the run asks for it.
    """

    collate = staticmethod(collate_bytes)
    picture_file = PICTURE
    images: ImageSplits
    processor: Any = None
    perceptual: PerceptualTerm | None = None
    feature_net: FeatureNet | None = None

    def __init__(self, arguments: Arguments, load: LoadParent | None = None):
        super().__init__(arguments)
        self.load = load

    def default_folder(self) -> Path:
        return output_folder(self.arguments)

    def fixed_knobs(self) -> Collection[str]:
        return config_fields(self.arguments.model_type)

    def read(self, accelerator: Accelerator, say: Callable[[str], None]) -> None:
        with accelerator.main_process_first():
            self.parent = load_autoencoder(self.arguments, self.load)
        channels = None if self.parent is None else self.parent.model.config.num_channels
        self.fitted, self.images = read_images(accelerator, self.arguments, channels)
        self.train_set, self.data_variance = self.images.train, None
        say(describe_images(self.images))
        judging = self.arguments.judging
        with accelerator.main_process_first():
            self.feature_net = feature_net(judging.feature_model, judging.feature_size, self.images.eval)

    def data_identity(self) -> dict[str, Any]:
        train = self.images.train
        count = {"number of pictures": len(train)} if hasattr(train, "__len__") else {}
        return {**count, "fingerprint": train.fingerprint}

    def measured(self) -> dict[str, Any]:
        """The variance: with another decoder or --cache_limit_gib, its last digits could differ in a resumed run."""
        return {"data_variance": self.variance()}

    def keep_measured(self, core: nn.Module, values: dict[str, Any]) -> None:
        self.data_variance = values.get("data_variance")
        if self.data_variance is not None and measures_variance(self.arguments, core.config):
            core.config.data_variance = self.data_variance

    def variance(self) -> float:
        return float(self.images.train.data_variance) if self.data_variance is None else self.data_variance

    def build(self, accelerator: Accelerator) -> PreTrainedModel:
        model = build_model(self.arguments, self.images, self.parent and self.parent.hand_over())
        train_parts(model, self.arguments.run.train_only)
        check_sharding(accelerator, model)
        self.schedules = Schedules(self.arguments.scheduled(model.config, schedule_names(model)))
        self.codebook_size = getattr(model, "codebook_size", None)
        self.passes = passes_per_image(model)
        self.processor = self.fitted.for_saving(model.config.height, model.config.width)
        if self.arguments.losses.perceptual_model is not None:
            self.perceptual = PerceptualTerm(self.arguments.losses, model.loss_per_element, accelerator)
            self.perceptual.check(self.images.train.image_shape)
        return model

    def build_adversary(self, model: nn.Module) -> DiscriminatorGame | None:
        shape = self.images.train.image_shape
        game = build_game(self.arguments.losses, model, shape[0], self.arguments.logging.logging_steps, self.perceptual)
        if game is not None and not self.arguments.losses.judges_features:  # their net was tested by `perceptual.check`
            check_discriminator_fits(game.net, shape)
        return game

    def describe(self, run: "Run") -> str:
        net = describe_model(run.core, self.schedules.schedules) + describe_backbone(self.arguments, run.core.config)
        return net + describe_losses(self.arguments.losses)

    def receive(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**batch, "pixel_values": scaled(batch["pixel_values"])}

    def begin(self, run: "Run") -> None:
        """Before the first step of a new run, the codebook is initialised from the whole first global batch."""
        run.core.defer_state_updates(True)
        if run.step == 0:
            micro_batches = islice(run.batches(0), self.arguments.training.gradient_accumulation_steps)
            run.core.initialize_from_data(torch.cat([batch["pixel_values"] for batch in micro_batches]))

    def step(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> ModelOutput:
        output, pixels = model(**batch, **self.schedules(step)), batch["pixel_values"]
        if self.perceptual is not None:
            compared = self.perceptual(output.reconstruction, pixels)
            output["loss"], output["perceptual_distance"] = output.loss + compared.term, compared.distance
            if self.arguments.losses.judges_features:
                output["seen"] = compared.seen
        if self.perceptual is not None or self.arguments.losses.adversarial_weight:
            output["gradient_energy"] = gradient_energy(output.reconstruction, pixels)
        return output

    def update_state(self, core: nn.Module) -> None:
        core.apply_state_updates()  # codebook statistics of all micro-batches and processes

    # -- judging -------------------------------------------------------------------------------------------------------

    def evaluate(self, run: "Run", model: nn.Module) -> dict[str, float]:
        """NMSE is relative to the training pixels; the relaxed ELBO uses the temperature that the training has now."""
        return evaluate(
            model, self.held_out_batches(run.accelerator.process_index, run.accelerator.num_processes),
            accelerator=run.accelerator, seed=self.arguments.run.seed, data_variance=self.variance(),
            temperature=self.schedules(run.step).get("temperature"),
        )  # fmt: skip

    def evaluation_passes(self) -> int:
        return self.passes * len(self.images.eval)

    def held_out_batches(self, rank: int, processes: int) -> DataLoader:
        images, size = self.images.eval, eval_batch_size(self.arguments, self.images.eval.image_shape)
        return evaluation_batches(images, size, rank, processes, collate_fn=images.collate)

    def picture(self, run: "Run", model: nn.Module) -> Image.Image:
        """Held-out images above their reconstructions."""
        images = self.images.eval
        pixels = images.batch(range(min(PICTURES, len(images))))["pixel_values"].to(run.accelerator.device)
        return reconstruction_sheet(pixels, model.reconstruct(pixels))

    def record(self, run: "Run") -> dict[str, Any]:
        images, knobs = self.images, self.arguments.as_dict()
        dataset = {
            "name": images.name,
            "train_split": images.train_split,
            "eval_split": images.eval_split,
            "train_images": len(images.train) if hasattr(images.train, "__len__") else None,
            "eval_images": len(images.eval),
            "image_shape": list(images.train.image_shape),
            **{name: knobs[name] for name in ("binarize", "random_flip", "random_crop", "random_resized_crop")},
        }
        start = {} if self.parent is None else {"train_only": list(self.arguments.run.train_only)}
        return {"model_type": run.core.config.model_type, "dataset": dataset, **start}

    def judge_photographs(self, run: "Run", model: nn.Module) -> dict[str, Any]:
        """{"metrics", "protocol"} of the held-out pictures in the features of --feature_model. A collective call."""
        batches = self.reconstructed(run, model)
        found = measure_photographs(
            batches, self.images.eval, self.feature_net.to(run.accelerator.device),
            size=self.arguments.judging.feature_size, reading=describe_processor(self.processor),
            dtype=PRECISIONS[run.accelerator.mixed_precision], seed=self.arguments.run.seed,
        )  # fmt: skip
        if run.accelerator.is_main_process:
            print("\n".join(found.lines()), flush=True)
        return {"metrics": found.metrics, "protocol": found.protocol}

    @torch.no_grad()
    def reconstructed(self, run: "Run", model: nn.Module) -> Iterator[Reconstructed]:
        """This process's share of the held-out pictures with what the model makes of them."""
        accelerator = run.accelerator
        batches = self.held_out_batches(accelerator.process_index, accelerator.num_processes)
        with evaluating(model):
            for pixels, numbers, counted in shares(batches, accelerator, accelerator.device):
                output, bits = model(pixels), None
                if self.codebook_size is not None:
                    bits = output.image_tokens[0].numel() * math.log2(self.codebook_size)
                yield Reconstructed(pixels[:counted], output.reconstruction[:counted], numbers[:counted], bits)

    # -- saving --------------------------------------------------------------------------------------------------------

    def save_model(self, run: "Run", model: nn.Module, folder: Path) -> None:
        state = run.accelerator.get_state_dict(run.model)  # whole, where processes hold shards
        if run.accelerator.is_main_process:
            model.save_pretrained(folder, state_dict=state)
            self.processor.save_pretrained(folder)

    def save_rest(self, run: "Run", model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
        self.measure_latents(run, model)
        if self.feature_net is not None:
            judged = self.judge_photographs(run, model)
            record["metrics"], record["protocol"] = record["metrics"] | judged["metrics"], judged["protocol"]
        picture, example = self.picture(run, model), self.example(run, model)
        record |= self.codes_of_example(run, model, example)
        if run.accelerator.is_main_process:
            model.config.save_pretrained(folder)
            picture.save(folder / self.picture_file)
            example.save(folder / EXAMPLE)

    def measure_latents(self, run: "Run", model: nn.Module) -> None:
        """Writes mean and spread of the training latents into the config, for latent diffusion and sampling.

        Every process uses the same images, so that all get the same values. The images are not augmented, so that a
        resumed run gets the values of an unbroken one. They are at most as many as the run has trained on. A field that
        the user set keeps its value.
        """
        images = self.images.train
        if not hasattr(images, "plain_batch"):  # a stream cannot be read again: use the held-out images
            images = self.images.eval
        training = self.arguments.training
        per_step = training.train_batch_size * training.gradient_accumulation_steps * run.accelerator.num_processes
        most = min(MEASURED_IMAGES, max(1, run.step * per_step), len(images))
        most = affordable(most, images.image_shape, MEASURED_BYTES)
        chosen, size = (
            range(0, len(images), len(images) // most)[:most],
            eval_batch_size(self.arguments, images.image_shape),
        )
        if run.accelerator.is_main_process:
            print(f"measuring the spread of the latents on {most:,} images", flush=True)
        batches = (chosen[start : start + size] for start in range(0, most, size))
        generator = torch.Generator().manual_seed(self.arguments.run.seed)
        device = run.accelerator.device
        model.measure_latents((images.plain_batch(rows)["pixel_values"].to(device) for rows in batches), generator)
        for name, value in self.arguments.model.items():
            setattr(model.config, name, value)

    def example(self, run: "Run", model: nn.Module) -> Image.Image:
        """The first held-out image."""
        return self.processor.postprocess(self.images.eval.batch([0])["pixel_values"])[0]

    def codes_of_example(self, run: "Run", model: nn.Module, example: Image.Image) -> dict[str, Any]:
        """The tokens of `example`, and how often each code occurs in the first held-out images.

        Every process computes the same: with sharded weights, all processes must call the model equally often.
        """
        if self.codebook_size is None:
            return {}
        device = run.accelerator.device
        pixels = self.processor(example, return_tensors="pt")["pixel_values"].to(device)
        tokens = model.get_image_tokens(pixels)[0].tolist()
        batches = self.held_out_batches(rank=0, processes=1)
        shape = self.images.eval.image_shape
        of_a_batch = math.prod(shape) * eval_batch_size(self.arguments, shape)
        counts = sum(
            count_codes(model.get_image_tokens(batch["pixel_values"].to(device)), self.codebook_size)
            for batch in islice(batches, max(1, COUNTED_VALUES // of_a_batch))
        )
        histogram = counts.tolist()
        return {"code_histogram": histogram[0] if len(histogram) == 1 else histogram, "example_image_tokens": tokens}

    def closing_lines(self, run: "Run", folder: Path) -> list[str]:
        tokens = f"encode_dataset --model {folder} --dataset_name NAME --output_dir tokens"
        return [
            f"model, metrics.json, {PICTURE}: {folder}",
            f"to judge it:   hf-autoencoders evaluate_model {folder}",
            f"to use it:     hf-autoencoders {tokens if self.codebook_size else f'sample --image_tokenizer {folder}'}",
            f"to publish it: hf-autoencoders publish {folder} --repo_id NAME",
        ]


def read_images(
    accelerator: Accelerator, arguments: Arguments, num_channels: int | None = None
) -> tuple[FittedProcessor, ImageSplits]:
    """The main process reads first, so that the others find its download. `num_channels`: if no knob gives it."""
    data, model = arguments.data, arguments.model
    if data.image_fit is not None and "image_size" not in model:
        raise ValueError("--image_fit says how pictures are brought to --image_size: give both.")
    if data.random_resized_crop is not None and ("image_size" not in model or data.image_fit not in (None, "crop")):
        raise ValueError(
            "--random_resized_crop cuts windows of the shape of --image_size: give it, and no --image_fit."
        )
    if data.streaming and arguments.training.max_train_steps is None:
        raise ValueError("--streaming has no epochs to count: give --max_train_steps.")
    processor = FittedProcessor(
        model.get("image_size"), model.get("num_channels", num_channels), data.image_fit or "crop"
    )
    names = (
        "dataset_config", "image_column", "label_column", "train_split", "eval_split", "max_train_samples",
        "max_eval_samples", "random_flip", "random_crop", "random_resized_crop", "binarize", "pixel_range",
        "skip_corrupt", "unknown_labels", "streaming", "stream_shuffle", "cache_limit_gib",
    )  # fmt: skip
    knobs = {name: getattr(data, name) for name in names}
    with accelerator.main_process_first():
        images = load_images(data.dataset_name, to_uint8=processor, seed=arguments.run.seed, **knobs)
    return processor, images


def measures_variance(arguments: Arguments, config: Any) -> bool:
    """Whether the model divides by the variance of the data and the user did not give it."""
    return hasattr(config, "data_variance") and "data_variance" not in {*arguments.model, *config.ignored_fields}


def describe_images(images: ImageSplits) -> str:
    channels, height, width = images.train.image_shape
    count = f"{len(images.train):,}" if hasattr(images.train, "__len__") else "a stream of"
    return (
        f"data {images.name}: {count} images of {channels}x{height}x{width} in {images.train_split!r}, "
        f"{len(images.eval):,} held out in {images.eval_split!r}"
    )


def build_model(arguments: Arguments, images: ImageSplits, parent: PreTrainedModel | None = None) -> PreTrainedModel:
    """The model by its type, through the Auto classes, or with the weights of `parent`.

    Sizes and variance come from the data unless they were given.
    """
    channels, height, width = images.train.image_shape
    measured = {"num_channels": channels, "image_size": height if height == width else [height, width]}
    if takes_resnet(arguments, min(height, width)):
        measured["backbone"] = "resnet"
    config = build_config(arguments, measured) if parent is None else parent.config
    if measures_variance(arguments, config):
        config.data_variance = images.train.data_variance
    model = AutoModel.from_config(config) if parent is None else train_on(parent, arguments, measured["image_size"])
    if arguments.training.init_output_bias:
        model.initialize_output_bias(images.train.mean_image)
    if arguments.training.gradient_checkpointing:
        checkpoint_activations(model)
    return model


def takes_resnet(arguments: Arguments, side: int) -> bool:
    """Whether large pictures get `resnet` in place of the default `conv`, which draws a checkerboard on flat areas."""
    by_default = AutoConfig.for_model(arguments.model_type).backbone == "conv"
    return by_default and "backbone" not in arguments.model and side >= LARGE_PICTURES


def check_sharding(accelerator: Accelerator, model: PreTrainedModel):
    """Raises ValueError where FSDP would lose what is written into a sharded parameter outside the optimizer."""
    writes = getattr(model.config, "sets_parameters_from_data", False)
    if writes and accelerator.distributed_type is DistributedType.FSDP:
        raise ValueError(
            f"Under FSDP the codebook of --quantizer {model.config.quantizer} is sharded, and a start from data or a "
            "revival would be lost: use --quantizer ema, or --codebook_init uniform --revive_dead_codes false."
        )


def describe_losses(losses: LossArguments) -> str:
    """Lines on what perceptual and adversarial losses add, in the unit of a loss per element; "" without them."""
    lines = []
    if losses.perceptual_model is not None:
        weights = {"feature maps": losses.perceptual_weight, "logits": losses.perceptual_logits_weight}
        said = " + ".join(f"{weight:g} x distance of {what}" for what, weight in weights.items() if weight)
        lines.append(f"  + {said} in the net {losses.perceptual_model}")
    if losses.adversarial_weight:
        lines.append(
            f"  + {losses.adversarial_weight:g} x {losses.adversarial_loss} term of a {losses.discriminator} "
            f"discriminator, which is trained from step {losses.discriminator_start} and counts from step "
            f"{losses.adversarial_start}"
        )
    return "".join(f"\n{line}" for line in lines)


def describe_backbone(arguments: Arguments, config: PreTrainedConfig) -> str:
    """A line where the size of the pictures chose the backbone; "" elsewhere."""
    if arguments.run.init_from or not takes_resnet(arguments, min(config.height, config.width)):
        return ""
    return (
        f"\nbackbone resnet, for pictures of {LARGE_PICTURES} pixels a side or more; --backbone conv is faster, but "
        "draws a checkerboard on flat areas"
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

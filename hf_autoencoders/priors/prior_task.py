# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The task of train_prior.py: a prior over the tokens of an image model.

tokens + classes -> sequences -> language model -> nats per code
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from ..models.modeling_image_token_lm import ImageTokenLM
from ..training.arguments import Arguments
from ..training.engine import Run
from ..training.run_files import CARD
from ..training.storage import write_atomically
from ..training.task import Task, checkpoint_activations
from .autoregressive import build_prior, generate_images, sequencer_of
from .cards import image_token_lm_card, prior_card
from .classes import check_class_dropout
from .likelihood import sequence_nats
from .masked import hide, is_masked, training_counts
from .prior_data import Sequences, TokenSplits, load_image_model, read_tokens
from .prior_knobs import LANGUAGE_MODELS
from .prior_metrics import evaluate_prior, without_class
from .prior_start import check_same_codes, load_saved_prior, note_other_names, train_prior_on
from .sequences import ImageTokenSequencer
from .sheets import SAMPLED, SAMPLES_PICTURE, labels_of_sheet, sheet
from .token_records import public_name


IMAGE_TOKEN_LM = "image_token_lm"


class PriorTask(Task):
    """A prior over the tokens that an image model gives to pictures.

    Attributes:
        image_model: decodes the tokens; lives on the device, outside of what is trained.
        processor: its own.
        tokens: to train on and to evaluate on.
        sequencer: their ids.
    """

    shards = False
    image_model: PreTrainedModel
    processor: Any
    tokens: TokenSplits
    sequencer: ImageTokenSequencer

    def default_folder(self) -> Path:
        return Path("runs") / f"prior-{Path(self.arguments.model['image_tokenizer']).name}"

    def read(self, accelerator: Accelerator, say: Callable[[str], None]) -> None:
        knobs = self.arguments.model
        with accelerator.main_process_first():
            self.parent = load_saved_prior(self.arguments)
            self.image_model, self.processor = load_image_model(
                knobs["image_tokenizer"], knobs["image_tokenizer_revision"]
            )
        if not hasattr(self.image_model, "get_image_tokens"):
            kind = self.image_model.config.model_type
            raise ValueError(f"{knobs['image_tokenizer']} is a {kind}, which has no image tokens.")
        known = None
        if self.parent is not None:
            check_same_codes(self.parent, self.arguments, self.image_model)
            known = sequencer_of(self.parent.model).num_classes
        self.tokens = read_tokens(self.arguments, self.image_model, self.processor, accelerator.device, say, known)
        self.image_model.to(accelerator.device)
        self.sequencer = build_sequencer(self.arguments, self.image_model, self.tokens)
        if self.parent is not None:
            note_other_names(self.parent, self.sequencer)
        self.train_set = Sequences(self.tokens.train, self.sequencer)

    def data_identity(self) -> dict[str, Any]:
        return self.tokens.identity()

    def build(self, accelerator: Accelerator) -> nn.Module:
        knobs = self.arguments.model
        if self.parent is None:
            sizes = ("architecture", "hidden_size", "num_layers", "num_heads", "dropout")
            prior = build_prior(self.sequencer, **{name: knobs[name] for name in sizes})
        else:
            prior = train_prior_on(self.parent.hand_over(), self.sequencer, knobs["dropout"])
        if self.arguments.training.gradient_checkpointing:
            checkpoint_activations(prior)
        return PriorInTraining(prior, self.sequencer)

    def describe(self, run: Run) -> str:
        millions = sum(parameter.numel() for parameter in run.core.parameters()) / 1e6
        tokens, sequencer = self.tokens, self.sequencer
        grid = "x".join(map(str, sequencer.grid_size))
        return (
            f"data {tokens.name}: {len(tokens.train):,} grids of {grid} codes, {len(tokens.eval):,} held out\n"
            f"prior {self.arguments.model['architecture']}: {millions:.2f} M parameters, {sequencer.codebook_size} "
            f"codes, {sequencer.num_classes} classes, class dropout {sequencer.class_dropout:g}"
        )

    def evaluate(self, run: Run, model: nn.Module) -> dict[str, float]:
        return evaluate_prior(run, model)

    def picture(self, run: Run, model: nn.Module) -> Image.Image:
        """Pictures drawn from the prior, one class a column."""
        classes = self.sequencer.num_classes
        labels = labels_of_sheet(classes)
        generator = torch.Generator().manual_seed(self.arguments.run.seed)
        pictures = generate_images(
            model.prior, self.image_model, labels, num_images=None if labels else SAMPLED, generator=generator
        )
        return sheet(pictures, classes)

    def record(self, run: Run) -> dict[str, Any]:
        return {
            "architecture": self.arguments.model["architecture"],
            "image_tokenizer": self.sequencer.image_tokenizer,
            "dataset": {
                "name": public_name(self.tokens.name),
                "train_images": len(self.tokens.train),
                "eval_images": len(self.tokens.eval),
            },
        }

    # -- saving --------------------------------------------------------------------------------------------------------

    def has_image_token_lm(self) -> bool:
        """Whether the run also leaves prior and image model in one."""
        knobs = self.arguments.model
        return knobs["image_token_lm"] and knobs["architecture"] in LANGUAGE_MODELS

    def save_model(self, run: Run, model: nn.Module, folder: Path) -> None:
        """The prior with its sequencer; below it, of a language model, prior and image model in one."""
        if run.accelerator.is_main_process:
            model.prior.save_pretrained(folder)
            self.sequencer.save_pretrained(folder)
            if self.has_image_token_lm():
                sequencer = self.sequencer
                whole = ImageTokenLM.from_parts(
                    self.image_model, model.prior, sequencer.num_classes, sequencer.class_dropout, sequencer.class_names
                )
                whole.save_pretrained(folder / IMAGE_TOKEN_LM)
                self.processor.save_pretrained(folder / IMAGE_TOKEN_LM)

    def save_rest(self, run: Run, model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
        picture, names = self.picture(run, model), names_of_repositories(self.arguments)
        if run.accelerator.is_main_process:
            picture.save(folder / SAMPLES_PICTURE)
            write_atomically(folder / CARD, prior_card(record, self.sequencer, names[0]))
            if self.has_image_token_lm():
                (folder / IMAGE_TOKEN_LM).mkdir()
                picture.save(folder / IMAGE_TOKEN_LM / SAMPLES_PICTURE)
                text = image_token_lm_card(record, self.sequencer, names[1])
                write_atomically(folder / IMAGE_TOKEN_LM / CARD, text)

    def closing_lines(self, run: Run, folder: Path) -> list[str]:
        whole = [f"prior and image model in one: {folder / IMAGE_TOKEN_LM}"] if self.has_image_token_lm() else []
        tokenizer = self.arguments.model["image_tokenizer"]
        draw = f"to draw:     hf-autoencoders sample --prior {folder} --image_tokenizer {tokenizer}"
        judge = f"to judge it: hf-autoencoders evaluate_model {tokenizer} --prior {folder}"
        return [f"prior, metrics.json, {SAMPLES_PICTURE}: {folder}", *whole, draw, judge]


class PriorInTraining(nn.Module):
    """A prior as the loop sees it: `loss` in nats per code; in training some classes are replaced by `begin`."""

    def __init__(self, prior: PreTrainedModel, sequencer: ImageTokenSequencer):
        super().__init__()
        self.prior, self.sequencer = prior, sequencer

    def forward(self, input_ids: Tensor, labels: Tensor, index: Tensor | None = None):
        """`index` (B,): the pictures' numbers in their set, which decide what eval draws of them."""
        ids = self.sequencer.ids
        if not self.training:
            nats = sequence_nats(self.prior, self.sequencer, input_ids, index)
            return CausalLMOutput(loss=nats.mean() / ids.num_tokens)
        if ids.class_dropout:
            dropped = torch.rand(len(input_ids), device=input_ids.device) < ids.class_dropout
            input_ids = without_class(input_ids, self.sequencer, dropped)
        if is_masked(self.prior):  # MaskGIT's loss
            counts = training_counts(len(input_ids), ids.num_tokens).to(input_ids.device)
            input_ids, labels = hide(input_ids, counts, ids.mask)
            return self.prior(input_ids=input_ids, labels=labels)
        return self.prior(input_ids=input_ids, labels=labels, use_cache=False)


def build_sequencer(arguments: Arguments, image_model, tokens: TokenSplits) -> ImageTokenSequencer:
    knobs, classes = arguments.model, tokens.num_classes
    check_class_dropout(arguments, classes)
    dropout = knobs["class_dropout"] if classes else 0.0
    names = tokens.train.names if classes else None
    sequencer = ImageTokenSequencer.for_model(image_model, classes, dropout, knobs["image_tokenizer_revision"], names)
    sequencer.image_tokenizer = public_name(sequencer.image_tokenizer)
    return sequencer


def names_of_repositories(arguments: Arguments) -> tuple[str, str]:
    """Of the prior, and of prior and image model in one."""
    name = arguments.hub.hub_model_id or Path(arguments.run.output_dir).resolve().name
    return name, f"{name}-image-token-lm"

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Metrics of a prior on the held-out split.

bits per dimension = (nats of the decoder + nats per code x codes) / (H W C ln 2)
"""

import torch
from torch import Tensor, nn

from ..evaluation.metrics import evaluate, named_bits_per_dim
from ..models.precision import exact_dtype
from ..training.assembly import on_device
from ..training.batches import evaluation_batches
from ..training.engine import Run
from .prior_data import Sequences
from .sequences import ImageTokenSequencer


def evaluate_prior(run: Run, model: nn.Module) -> dict[str, float]:
    """Metrics of the held-out split, each picture counted once. A collective call.

    nats_per_code: of the codes, given the class where the prior has classes; for a masked prior a bound from above.
    nats_per_code_unconditional: without the class.
    prior_nats, reconstruction_nats, nats: per image. bits_per_dim_*: of the whole model, prior and decoder.
    """
    metrics = nats_per_code(run, model)
    return {**metrics, **whole_model(run, metrics["nats_per_code"])}


def nats_per_code(run: Run, model: nn.Module) -> dict[str, float]:
    accelerator, task = run.accelerator, run.task
    sequencer, sequences = task.sequencer, Sequences(task.tokens.eval, task.sequencer)
    loader = evaluation_batches(
        sequences, run.arguments.training.eval_batch_size, accelerator.process_index, accelerator.num_processes,
        collate_fn=task.collate,
    )  # fmt: skip
    sums = torch.zeros(3, dtype=exact_dtype(accelerator.device), device=accelerator.device)
    for batch in on_device(loader, accelerator.device):
        count = len(batch["input_ids"])
        sums[0] += count
        sums[1] += model(**batch).loss.to(sums) * count
        if sequencer.class_dropout:
            batch["input_ids"] = without_class(batch["input_ids"], sequencer)
            sums[2] += model(**batch).loss.to(sums) * count
    count, given, free = accelerator.reduce(sums, reduction="sum").tolist()
    metrics = {"images": count, "nats_per_code": given / count}
    return {**metrics, "nats_per_code_unconditional": free / count} if sequencer.class_dropout else metrics


def whole_model(run: Run, nats_per_code: float) -> dict[str, float]:
    """-ln p(x, codes) <= -ln p(x): nats per image of prior and decoder together, where there are pictures."""
    task = run.task
    prior_nats = nats_per_code * task.sequencer.ids.num_tokens
    if task.tokens.images is None:
        return {"prior_nats": prior_nats}
    config = task.image_model.config
    metrics = decoder_metrics(run)
    nats = metrics["negative_log_likelihood"] + prior_nats
    dimensions = config.height * config.width * config.num_channels
    return {
        "prior_nats": prior_nats,
        "reconstruction_nats": metrics["negative_log_likelihood"],
        "nats": nats,
        **named_bits_per_dim(nats, dimensions, metrics.get("bernoulli_floor")),
        "code_perplexity": metrics["perplexity"],
    }


def decoder_metrics(run: Run) -> dict[str, float]:
    """Metrics of the image model on the held-out pictures. The model does not change, so they are measured once."""
    tokens, accelerator = run.task.tokens, run.accelerator
    if tokens.metrics is None:
        images = tokens.images
        loader = evaluation_batches(
            images, run.arguments.training.eval_batch_size, accelerator.process_index, accelerator.num_processes,
            collate_fn=images.collate,
        )  # fmt: skip
        tokens.metrics = evaluate(run.task.image_model, on_device(loader, accelerator.device), ssim=False)
    return tokens.metrics


def without_class(input_ids: Tensor, sequencer: ImageTokenSequencer, dropped: Tensor | bool = True) -> Tensor:
    """Sequences (B, 1 + N) whose prompt is `begin` where `dropped` (B,)."""
    begin = torch.full_like(input_ids[:, :1], sequencer.ids.begin)
    dropped = torch.as_tensor(dropped, device=input_ids.device).view(-1, 1)
    return torch.cat([torch.where(dropped, begin, input_ids[:, :1]), input_ids[:, 1:]], dim=1)

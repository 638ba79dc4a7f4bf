# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Two ONNX graphs of a model: pictures to tokens (or latents), and back; any batch, any size that the stride divides.

    encode.onnx   pixel_values (B, C, H, W) in [-1, 1]  ->  image_tokens (B, h, w) int64, or latents (B, D, h, w)
    decode.onnx   image_tokens, or latents              ->  sample (B, C, H, W)

The image processor's constants stand in the metadata of both: what brings a picture to `pixel_values`, and back.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from hf_autoencoders.models.image_processing_autoencoder import AutoencoderImageProcessorPil


# Of the processor; with them a reader without Python can prepare pictures.
CONSTANTS = ("size", "resample", "rescale_factor", "image_mean", "image_std", "num_channels")


class Encode(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        encoded = self.model.encode(pixel_values, return_dict=True)
        return encoded.image_tokens if hasattr(encoded, "image_tokens") else encoded.latents


class Decode(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes, return_dict=True).sample


def export_onnx(model: nn.Module, out: Path, processor: Any = None) -> tuple[str, ...]:
    """Writes the graphs into the folder `out`, runs them, and says how far they are from the model.

    Raises:
        ValueError: the packages onnx and onnxscript are missing, or the graphs give other tokens.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"ONNX needs the extra [onnx]: pip install 'hf_autoencoders[onnx]' ({error}).") from error
    out.mkdir(parents=True, exist_ok=True)
    model = model.float().eval()
    config = model.config
    pixels = example_pixels(config)
    with torch.no_grad():
        codes = Encode(model)(pixels)
    metadata = processor_constants(config, processor)
    batch = Dim("batch")
    name = "image_tokens" if codes.dtype == torch.int64 else "latents"
    write(Encode(model), pixels, pixel_axes(config, batch), ("pixel_values", name), out / "encode.onnx", metadata)
    if not config.encoder_only:
        write(Decode(model), codes, code_axes(config, codes, batch), (name, "sample"), out / "decode.onnx", metadata)
    return (check_onnx(model, out),)


def example_pixels(config: Any) -> Tensor:
    """Three pictures; higher than wide where the net takes any size, since equal lengths could be taken for one."""
    height, width = config.height, config.width
    if config.backbone != "mlp":
        height, width = 3 * config.downsample_factor, 2 * config.downsample_factor
    shape = (3, config.num_channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def pixel_axes(config: Any, batch: Any) -> dict[int, Any]:
    if config.backbone == "mlp":
        return {0: batch}
    factor = config.downsample_factor
    height, width = Dim("height", max=4096), Dim("width", max=4096)  # of the grid
    return {0: batch, 2: factor * height if factor > 1 else height, 3: factor * width if factor > 1 else width}


def code_axes(config: Any, codes: Tensor, batch: Any) -> dict[int, Any]:
    if config.backbone == "mlp":
        return {0: batch}
    first = 1 if codes.dtype == torch.int64 else 2
    return {0: batch, first: Dim("height", max=4096), first + 1: Dim("width", max=4096)}


def write(
    module: nn.Module, example: Tensor, axes: dict, names: tuple[str, str], file: Path, metadata: dict[str, str]
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself, as is what it logs
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=[axes],
            input_names=names[:1],
            output_names=names[1:],
            verbose=False,
        )
    program.model.metadata_props.update(metadata)
    program.save(str(file))


def processor_constants(config: Any, processor: Any = None) -> dict[str, str]:
    """Metadata of a graph: JSON values by name."""
    size = {"height": config.height, "width": config.width}
    processor = processor or AutoencoderImageProcessorPil(size=size, num_channels=config.num_channels)
    values = {name: plain_value(getattr(processor, name)) for name in CONSTANTS}
    codes = {"codebook_size": config.codebook_size} if hasattr(config, "codebook_size") else {}
    values |= {"model_type": config.model_type, "downsample_factor": config.downsample_factor, **codes}
    return {name: json.dumps(value) for name, value in values.items()}


def plain_value(value: Any) -> Any:
    if hasattr(value, "height"):  # transformers' SizeDict
        return {"height": value.height, "width": value.width}
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


@torch.no_grad()
def check_onnx(model: nn.Module, out: Path) -> str:
    """Runs the graphs on pictures of another batch and size in onnxruntime, if it is there. Raises ValueError if they
    give other tokens."""
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        return "onnxruntime is not installed: the graphs were not run."
    config = model.config
    side = (config.height, config.width) if config.backbone == "mlp" else (2 * config.downsample_factor,) * 2
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(5, config.num_channels, *side, generator=generator) * 2 - 1
    codes = run_onnx(InferenceSession(out / "encode.onnx"), pixels)
    expected = Encode(model)(pixels)
    if codes.dtype == torch.int64 and not torch.equal(codes, expected):
        raise ValueError(
            f"onnxruntime gives other tokens at {int((codes != expected).sum())} of {codes.numel()} places."
        )
    said = "the same tokens" if codes.dtype == torch.int64 else f"latents within {distance(codes, expected):.2g}"
    if config.encoder_only:
        return f"onnxruntime gives {said}."
    pictures = run_onnx(InferenceSession(out / "decode.onnx"), expected)
    return f"onnxruntime gives {said}, and pictures within {distance(pictures, Decode(model)(expected)):.2g}."


def run_onnx(session: Any, given: Tensor) -> Tensor:
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])


def distance(ours: Tensor, theirs: Tensor) -> float:
    return (ours - theirs).abs().max().item()

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows on encoding and decoding: the same weights in other packages, bfloat16, exported nets, large pictures."""

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import Case, in_fresh_process, installed, interleaved

from hf_autoencoders import DVAEConfig, DVAEModel, VQVAEConfig, VQVAEModel


RESNET = {"backbone": "resnet", "block_out_channels": [64, 128, 128, 256], "codebook_dim": 8, "codebook_size": 8192}
TINY = {
    "backbone": "resnet",
    "block_out_channels": [8, 8],
    "norm_num_groups": 2,
    "codebook_dim": 4,
    "codebook_size": 16,
}


def resnet(tiny: bool) -> VQVAEModel:
    torch.manual_seed(0)
    return VQVAEModel(VQVAEConfig(image_size=16 if tiny else 128, **(TINY if tiny else RESNET))).eval()


def pictures(batch: int, side: int) -> torch.Tensor:
    """Smooth colours with grain, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (2 * smooth - 1 + 0.05 * torch.randn(batch, 3, side, side, generator=generator)).clamp(-1, 1)


def of_diffusers(model: VQVAEModel, dtype: torch.dtype = torch.float32):
    from hf_autoencoders.hub.diffusers_export import to_diffusers

    return to_diffusers(model).eval().to(dtype)


def their_tokens(peer, pixels: torch.Tensor) -> torch.Tensor:
    latents = peer.encode(pixels).latents
    return peer.quantize(latents)[2][2].view(len(pixels), *latents.shape[2:])


@torch.no_grad()
def encode(given: argparse.Namespace) -> list[Case]:
    """Pixels to tokens and tokens to pixels, float32, the same weights in diffusers' VQModel."""
    model, cases = resnet(given.tiny), []
    if not installed("diffusers"):
        return [Case("diffusers is not installed", {})]
    peer = of_diffusers(model)
    for side in (16,) if given.tiny else (128, 256):
        pixels = pictures(4 if side <= 128 else 1, side)
        tokens = model.get_image_tokens(pixels)
        vectors = model.quantize.get_codebook_entry(tokens)
        ways = {"ours": lambda p=pixels: model.get_image_tokens(p), "diffusers": lambda p=pixels: their_tokens(peer, p)}
        case = Case(f"encode, {len(pixels)} x {side} px", interleaved(ways, given.rounds))
        case.claim("as fast as diffusers", case.ratio("diffusers"), ">=", 1.3)
        case.notes.append(share_of_convolutions(ways["ours"]))
        wrong = changed_beyond_ties(model, pixels, tokens, their_tokens(peer, pixels))
        case.claim("tokens that differ and are no tie in float64", wrong, "<=", 0, "")
        cases.append(case)
        ways = {
            "ours": lambda t=tokens: model.decode_image_tokens(t),
            "diffusers": lambda v=vectors: peer.decode(v, force_not_quantize=True).sample,
        }
        case = Case(f"decode, {len(pixels)} x {side} px", interleaved(ways, given.rounds))
        case.claim("as fast as diffusers", case.ratio("diffusers"), ">=", 1.3)
        case.notes.append(share_of_convolutions(ways["ours"]))
        cases.append(case)
    return cases


def share_of_convolutions(way: Callable) -> str:
    """Of the time of `way`, by torch's profiler: no other code can save more than the rest of it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        way()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    convolutions = sum(time for key, time in times.items() if "conv" in key or "linear_pointwise" in key)
    return f"Convolutions and linear maps take {convolutions / sum(times.values()):.0%} of ours (torch's profiler)."


def changed_beyond_ties(model, pixels: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Positions with different tokens whose two codes are not equally far, to 1e-5, from the float64 latent."""
    if torch.equal(ours, theirs):
        return 0
    exact = copy.deepcopy(model).double()
    z = exact.encode_pixels(pixels.double()).permute(0, 2, 3, 1)[ours != theirs]  # (positions, D)
    book = exact.quantize.embedding.weight.double()
    pair = [(z - book[codes[ours != theirs]]).norm(dim=1) for codes in (ours, theirs)]
    return int(((pair[0] - pair[1]).abs() > 1e-5 * pair[0]).sum())


@torch.no_grad()
def encode_bf16(given: argparse.Namespace) -> list[Case]:
    """The same with the weights in bfloat16."""
    model = resnet(given.tiny)
    if not installed("diffusers"):
        return [Case("diffusers is not installed", {})]
    half, peer, half_peer = copy.deepcopy(model).bfloat16(), of_diffusers(model), of_diffusers(model, torch.bfloat16)
    pixels, cases = pictures(4, 16 if given.tiny else 128), []
    tokens = model.get_image_tokens(pixels)
    vectors = model.quantize.get_codebook_entry(tokens)
    both = {
        "encode": {
            "ours": lambda: half.get_image_tokens(pixels),
            "diffusers fp32": lambda: their_tokens(peer, pixels),
            "diffusers bf16": lambda: their_tokens(half_peer, pixels.bfloat16()),
        },
        "decode": {
            "ours": lambda: half.decode_image_tokens(tokens),
            "diffusers fp32": lambda: peer.decode(vectors, force_not_quantize=True).sample,
            "diffusers bf16": lambda: half_peer.decode(vectors.bfloat16(), force_not_quantize=True).sample,
        },
    }
    for name, ways in both.items():
        case = Case(f"{name}, bfloat16, {len(pixels)} x {pixels.shape[-1]} px", interleaved(ways, given.rounds))
        case.claim("as fast as diffusers in float32", case.ratio("diffusers fp32"), ">=", 2.5)
        case.claim("as fast as diffusers in bfloat16", case.ratio("diffusers bf16"), ">=", 1.2)
        case.notes.append(share_of_convolutions(ways["ours"]))
        cases.append(case)
    share = (half.get_image_tokens(pixels) != tokens).float().mean().item()
    cases[0].notes.append(f"{share:.2%} of the tokens are others than in float32 (random weights: codes lie close).")
    error = (half.decode_image_tokens(tokens).float() - model.decode_image_tokens(tokens)).square().mean() / 4
    cases[1].notes.append(
        f"The picture of the same tokens lies {-10 * error.log10():.1f} dB from that of float32 (PSNR)."
    )
    return cases


@torch.no_grad()
def dvae(given: argparse.Namespace) -> list[Case]:
    """OpenAI's encoder against transformers' FlavaImageCodebook with the same weights."""
    from hf_autoencoders.hub.exporters import to_flava_folder

    torch.manual_seed(0)
    size = {"block_out_channels": [16, 32, 64, 128], "codebook_size": 16} if given.tiny else {
        "block_out_channels": [256, 512, 1024, 2048], "codebook_size": 8192}  # fmt: skip
    config = DVAEConfig(image_size=112, backbone="dalle", layers_per_block=2, codebook_dim=128, **size)
    model, pixels = DVAEModel(config).eval(), pictures(1, 112)
    peer = to_flava_folder(model).eval()
    ways = {"ours": lambda: model.get_image_tokens(pixels), "FlavaImageCodebook": flava_tokens(peer, pixels)}
    case = Case("encode, 1 x 112 px, 14 x 14 tokens", interleaved(ways, given.rounds))
    case.claim("as fast as FlavaImageCodebook", case.ratio("FlavaImageCodebook"), ">=", 1.2)
    different = (ways["ours"]() != ways["FlavaImageCodebook"]().view(1, 14, 14)).sum().item()
    case.claim("tokens that differ", different, "<=", 0, "")
    case.notes.append(share_of_convolutions(ways["ours"]))
    return [case]


def flava_tokens(peer, pixels: torch.Tensor) -> Callable:
    squeezed = 0.8 * ((pixels + 1) / 2) + 0.1  # FLAVA's image processor does it
    return lambda: peer.get_codebook_indices(squeezed)


@torch.no_grad()
def exported(given: argparse.Namespace) -> list[Case]:
    """Encoding by the eager model, torch.compile, AOTInductor, and onnxruntime after `scripts/export.py --to onnx`."""
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(image_size=64, backbone="conv")).eval()
    pixels = pictures(1, 64)
    ways = {"ours": lambda: model.get_image_tokens(pixels), "torch.compile": compiled(model, pixels, given)}
    with tempfile.TemporaryDirectory() as folder:
        ways["AOTInductor"] = compiled_ahead(model, pixels, Path(folder), given)
        ways["onnxruntime"] = onnx_session(model, pixels, Path(folder))
        case = Case("encode by the conv net, 1 x 64 px", interleaved(ways, given.rounds))
        for name, way in list(ways.items())[1:]:
            if way is not None:
                tokens = torch.as_tensor(way())
                case.claim(f"tokens that differ, {name}", (tokens != ways["ours"]()).sum().item(), "<=", 0, "")
    case.notes.append(
        "For comparison only: no target. ONNX: `python scripts/export.py RUN --to onnx OUT`. AOTInductor: "
        "`torch.export` of a module that calls `get_image_tokens`, then `torch._inductor.aoti_compile_and_package`; "
        "a C++ compiler is needed, and the file fits this kind of machine only."
    )
    return [case]


def compiled(model, pixels: torch.Tensor, given: argparse.Namespace) -> Callable | None:
    if given.tiny:
        return None
    encoder = torch.compile(lambda x: model.encode(x, return_dict=True).image_tokens)
    return lambda: encoder(pixels)


class Tokenizing(torch.nn.Module):
    """`get_image_tokens` as a module's forward, which `torch.export` takes."""

    def __init__(self, model: VQVAEModel):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_tokens(pixels)


def compiled_ahead(model: VQVAEModel, pixels: torch.Tensor, folder: Path, given: argparse.Namespace) -> Callable | None:
    if given.tiny:
        return None
    program = torch.export.export(Tokenizing(model), (pixels,))
    file = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "encode.pt2"))
    encoder = torch._inductor.aoti_load_package(file)
    return lambda: encoder(pixels)


def onnx_session(model, pixels: torch.Tensor, folder: Path) -> Callable | None:
    if not all(installed(package) for package in ("onnx", "onnxruntime", "onnxscript")):
        return None
    import onnxruntime

    from hf_autoencoders.hub.onnx_export import export_onnx

    export_onnx(copy.deepcopy(model), folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / "encode.onnx", options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: pixels.numpy()}
    return lambda: session.run(None, given)[0]


LARGE = """
import resource, sys, time, torch
from hf_autoencoders import VAEConfig, VAEModel
side, tile, memory, tiny = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "True"
torch.set_num_threads(1)
torch.manual_seed(0)
shape = {"block_out_channels": [8, 8], "norm_num_groups": 2} if tiny else {"block_out_channels": [64, 128, 128, 256]}
model = VAEModel(VAEConfig(backbone="resnet", latent_channels=4, mid_block_add_attention=False, **shape)).eval()
pixels = torch.rand(1, 3, side, side) * 2 - 1
if tile:
    model.enable_tiling(tile, memory)
with torch.no_grad():
    for net, given in (("encode", pixels), ("decode", None)):
        started = time.process_time()
        if net == "encode":
            latents = model.encode(given).latents
        else:
            model.decode(latents)
        print(net, time.process_time() - started)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def large(given: argparse.Namespace) -> list[Case]:
    """A large picture through the f8 VAE in a fresh process, by tiles."""
    side, tile = (64, 32) if given.tiny else (given.large_side, 512)
    said, peak = in_fresh_process(LARGE, side, tile, given.large_memory_gib, given.tiny)
    case = Case(f"1 x {side} px, tiles of {tile}, maps of at most {given.large_memory_gib:g} GiB held", {})
    case.claim("GiB at the peak of the process", peak / 2**20, "<=", 4.0, " GiB")
    case.notes.append("CPU seconds: " + ", ".join(said.splitlines()) + ". 15 M weights, without attention.")
    return [case]

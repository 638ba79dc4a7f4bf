# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Files of torch.save from strangers: a state dict, a whole training, a whole module; nothing that they name is run.

torch's own `weights_only` unpickler reads them. Classes that it does not know (callbacks, optimizers, the net itself)
become empty stand-ins that keep the state which the file gives them: nothing of them is imported or called.
"""

import io
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


Weights = dict[str, Tensor]

# Where the files of whole trainings keep the state dict; the first that is there is taken.
ENTRIES = ("ema", "model", "state_dict", "weights")
# Where files say how their net was built.
SETTINGS = ("hparams", "hyper_parameters", "config", "args")
ADVICE = ("Weights only load failed", "(1)", "(2)", "Check the documentation of torch.load")
MOST_MODULES = 100_000  # in a pickled module; more is a loop


class Checkpoint(NamedTuple):
    """`weights`: a state dict. `settings`: what the file or folder says of its net, {} if nothing. `source`: where."""

    weights: Weights
    settings: dict[str, Any]
    source: str


class StandIn:
    """Takes the place of any class or function that a file names. Making one gives an empty OrderedDict.

    That is the one type which torch's unpickler fills both with items and with attributes.
    """

    def __new__(cls, *args, **kwargs):
        return OrderedDict()


class SilentStandIn:
    """For numpy's scalars and arrays, whose state is no dictionary: it is let go."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_torch_file(path: Path) -> Checkpoint:
    archive = zipfile.is_zipfile(path)
    if archive:
        check_archive(path)
    try:
        # What torch's unpickler knows by itself goes before these.
        with torch.serialization.safe_globals([(stand_in(name), name) for name in named_in(path, archive)]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive or None)
    except Exception as error:  # a damaged or hostile stream of operations can fail in any way
        raise ValueError(f"{path} is damaged, or no file of torch.save: {first_line(error)}") from error
    entry, weights = find_state_dict(content)
    if weights is None:
        raise ValueError(
            f"{path} holds no state dict (names and tensors), neither at its top nor in {', '.join(ENTRIES)}."
        )
    check_tensors(path, weights)
    settings = {}
    for name in SETTINGS if isinstance(content, dict) else ():
        if isinstance(content.get(name), dict):  # a Namespace came as a stand-in with attributes
            settings = plain({**content[name], **getattr(content[name], "__dict__", {})})
            break
    return Checkpoint(weights, settings, f"{path.name}{f', entry `{entry}`' if entry else ''}")


def check_archive(path: Path) -> None:
    """Raises ValueError if the archive unpacks to more than it holds; torch.save compresses nothing."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(
            f"{path} has {size:,} bytes and unpacks to {unpacked:,}: torch.save compresses nothing, so this is none of "
            "its files, and it is not unpacked."
        )


def named_in(path: Path, archive: bool) -> set[str]:
    """Classes and functions that the file names, found without loading it.

    Raises:
        ValueError: it asks for memory that it does not fill: bytearray(n) is the one call that could.
    """
    names: set[tuple[str, str]] = set()
    with zipfile.ZipFile(path) if archive else open(path, "rb") as file:
        if archive:
            streams = [io.BytesIO(file.read(name)) for name in file.namelist() if name.endswith("/data.pkl")]
        else:  # torch < 1.6: magic number, protocol, machine, then the object, one after the other
            streams = [file] * 4
        for stream in streams:
            names |= {tuple(arg.split(" ", 1)) for op, arg, _ in pickletools.genops(stream) if op.name == "GLOBAL"}
    # Pickles of protocol 2 may use the names of Python 2: `__builtin__.dict` is builtins.dict.
    names |= {NAME_MAPPING.get((m, name), (IMPORT_MAPPING.get(m, m), name)) for m, name in names}
    if ("builtins", "bytearray") in names:
        raise ValueError("it builds a bytearray, which weights never need and which takes any memory.")
    return {".".join(pair) for pair in names}


def stand_in(name: str) -> type:
    """A class of its own for each name, since files use classes as keys of dictionaries."""
    kind = SilentStandIn if name.startswith("numpy.") else StandIn
    return type(name.rpartition(".")[2], (kind,), {})


def find_state_dict(content: Any) -> tuple[str | None, Weights | None]:
    """The entry that held it, and the state dict; (None, None) if there is none."""
    candidates = [(None, content)]
    if isinstance(content, dict) and not is_module(content):
        candidates = [*((key, content[key]) for key in ENTRIES if key in content), *candidates]
    for entry, candidate in candidates:
        if is_module(candidate):
            candidate = module_weights(candidate)
        if is_state_dict(candidate):
            return entry, {name: tensor.detach() for name, tensor in candidate.items()}
    return None, None


def is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def is_module(content: Any) -> bool:
    """Whether a stand-in took the state of an nn.Module."""
    state = getattr(content, "__dict__", {})
    return isinstance(state.get("_modules"), dict) and isinstance(state.get("_parameters"), dict)


def module_weights(module: Any) -> Weights:
    """The state dict of a pickled module, as nn.Module.state_dict() would name it."""
    weights, waiting, seen = {}, [("", module)], 0
    while waiting:
        prefix, part = waiting.pop()
        seen += 1
        if seen > MOST_MODULES or not is_module(part):
            continue
        state = part.__dict__
        skipped = state.get("_non_persistent_buffers_set") or ()
        buffers = {name: buffer for name, buffer in (state.get("_buffers") or {}).items() if name not in skipped}
        own = {**state["_parameters"], **buffers}
        weights |= {f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
        waiting += [(f"{prefix}{name}.", child) for name, child in state["_modules"].items() if child is not None]
    return weights


def check_tensors(path: Path, weights: Weights) -> None:
    """Raises ValueError for a tensor that is larger than its data: a copy of it could take any memory."""
    for name, tensor in weights.items():
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: the tensor `{name[:80]}` of shape {tuple(tensor.shape)} is not all in the file.")


def plain(settings: dict) -> dict[str, Any]:
    """The settings of simple types, by name."""
    simple = (str, int, float, bool, list, tuple, dict, type(None))
    return {name: value for name, value in settings.items() if isinstance(name, str) and isinstance(value, simple)}


def first_line(error: Exception) -> str:
    """What went wrong, in one line of at most 200 characters, without torch's advice to run the file's code."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if not line.startswith(ADVICE)) or type(error).__name__
    text = text.removeprefix("WeightsUnpickler error: ").strip().partition(" Please use `torch.serialization")[0]
    return text if len(text) <= 200 else f"{text[:200]} ..."

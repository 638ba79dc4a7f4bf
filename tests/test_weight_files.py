# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Files of strangers: what real trainings write is read, nothing that a file names is run, memory is bounded."""

import argparse
import collections
import enum
import json
import pickle
import pickletools
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_autoencoders.hub.weight_files import read_checkpoint, read_settings, read_weights


WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def same(weights):
    return weights.keys() == WEIGHTS.keys() and all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)


class Items(dict):
    """As Lightning's AttributeDict: a dictionary of a class that is not installed where the file is read."""


class Kind(enum.Enum):
    MIN = "min"


class Callback:
    def __init__(self):
        self.best, self.kind = np.float64(0.5), Kind.MIN


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.arange(2.0))
        self.register_buffer("kept", torch.ones(1))
        self.register_buffer("dropped", torch.ones(1), persistent=False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), nn.ReLU(), nn.Linear(2, 1))
        self.config = argparse.Namespace(width=2)


CLASSES = (Items, Kind, Callback, Block, Net)


@pytest.fixture
def without_the_classes(monkeypatch):
    """As if the file were read where they are not installed."""

    def forget():
        for kind in CLASSES:
            monkeypatch.delattr(sys.modules[__name__], kind.__name__)

    return forget


@pytest.mark.parametrize("old_format", [False, True])
def test_a_training_s_checkpoint_is_read_beside_objects_of_classes_that_are_not_there(
    tmp_path, without_the_classes, old_format
):
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "1.4.0",
        "callbacks": {Callback: {"best_model_score": torch.ones(()), "object": Callback(), "array": np.arange(3)}},
        "optimizer_states": [optimizer.state_dict(), collections.defaultdict(dict)],
        "hyper_parameters": Items(lr=1e-3, image_size=64, args=argparse.Namespace(a=1)),
        "state_dict": collections.OrderedDict(WEIGHTS),
    }
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=not old_format)
    without_the_classes()
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    assert same(checkpoint.weights) and checkpoint.settings["image_size"] == 64
    assert checkpoint.source == "last.ckpt, entry `state_dict`"


def test_a_pickled_module_gives_its_state_dict(tmp_path, without_the_classes):
    net = Net()
    expected = net.state_dict()
    torch.save(net, tmp_path / "net.pkl")
    without_the_classes()
    weights = read_weights(tmp_path / "net.pkl")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_a_folder_is_read_with_its_config_whatever_its_file_is_called(tmp_path):
    (tmp_path / "config.json").write_text('{"sample_size": 32}')
    with pytest.raises(ValueError, match="has none of the files model, diffusion_pytorch_model, pytorch_model"):
        read_weights(tmp_path)
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert same(read_weights(tmp_path))
    save_file({name: 2 * tensor for name, tensor in WEIGHTS.items()}, tmp_path / "diffusion_pytorch_model.safetensors")
    checkpoint = read_checkpoint(tmp_path)
    assert torch.equal(checkpoint.weights["b"], 2 * WEIGHTS["b"]) and checkpoint.settings == {"sample_size": 32}


def test_an_index_cannot_name_files_elsewhere(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match="names a file of another folder"):
        read_weights(tmp_path)


# -- hostile files -----------------------------------------------------------------------------------------------------


class Runs:
    """Unpickling it would call a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old_format", [False, True])
def test_nothing_that_a_file_names_is_run(tmp_path, old_format):
    trace = tmp_path / "trace"
    for function, arguments in ((open, (str(trace), "w")), (subprocess.call, (["touch", str(trace)],))):
        content = {"state_dict": WEIGHTS, "payload": Runs(function, *arguments)}
        torch.save(content, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=not old_format)
        assert same(read_weights(tmp_path / "evil.ckpt"))
    import os

    torch.save({"state_dict": WEIGHTS, "payload": Runs(os.system, f"touch {trace}")}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="no file of torch.save: .* posix.system whose module posix is blocked"):
        read_weights(tmp_path / "evil.ckpt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Runs(os.system, f"touch {trace}")))
    with pytest.raises(ValueError, match="damaged, or no file of torch.save"):
        read_weights(tmp_path / "plain.pkl")
    assert not trace.exists()


def peak(before=resource.getrusage):
    return before(resource.RUSAGE_SELF).ru_maxrss  # kiB


def test_an_archive_that_unpacks_to_more_than_it_holds_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "small.pt")
    with zipfile.ZipFile(tmp_path / "small.pt") as small, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for member in small.infolist():
            bomb.writestr(member, small.read(member))
        with bomb.open(zipfile.ZipInfo("small/data/1"), "w", force_zip64=True) as file:
            file._compressor, file._zinfo.compress_type = zipfile._get_compressor(zipfile.ZIP_DEFLATED), 8
            for _ in range(300):
                file.write(bytes(1 << 20))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 20
    before = peak()
    with pytest.raises(ValueError, match=r"unpacks to 314,5.*torch.save compresses nothing"):
        read_weights(tmp_path / "bomb.pt")
    assert peak() - before < 50_000


def test_a_few_bytes_cannot_ask_for_gigabytes(tmp_path):
    """bytearray(10**10), which torch's unpickler would call."""
    content = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0bT\x02\x85R."
    assert pickletools_names(content) == {"builtins bytearray"}
    with zipfile.ZipFile(tmp_path / "asks.pt", "w") as file:
        for name, value in (("x/data.pkl", content), ("x/version", b"3\n"), ("x/byteorder", b"little")):
            file.writestr(name, value)
    before = peak()
    with pytest.raises(ValueError, match="it builds a bytearray"):
        read_weights(tmp_path / "asks.pt")
    assert peak() - before < 50_000


def pickletools_names(content):
    return {argument for operation, argument, _ in pickletools.genops(content) if operation.name == "GLOBAL"}


def test_a_tensor_larger_than_its_data_is_refused(tmp_path):
    torch.save({"huge": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "huge.pt")
    with pytest.raises(ValueError, match=r"`huge` of shape \(1000000, 1000000\) is not all in the file"):
        read_weights(tmp_path / "huge.pt")
    torch.save({"sparse": torch.eye(2).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(ValueError, match="`sparse` of shape"):
        read_weights(tmp_path / "sparse.pt")


def test_damage_and_other_files_are_one_line(tmp_path):
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    save_file(WEIGHTS, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.pt").read_bytes()
    for number, content in enumerate(
        (b"", b"PK", whole[:300], whole[:-30], b"\x80\x02.", b"}" * 100, bytes(range(256)))
    ):
        (tmp_path / "cut.pt").write_bytes(content)
        with pytest.raises(ValueError) as caught:
            read_weights(tmp_path / "cut.pt")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500, number
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-3])
    with pytest.raises(ValueError, match="damaged, or no safetensors file"):
        read_weights(tmp_path / "cut.safetensors")
    for text in ("[1, 2]", "a: [", "\udcff".encode("utf-8", "surrogatepass")):
        (tmp_path / "x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match="cannot be read as YAML|must hold names and values"):
            read_settings(tmp_path / "x.yaml")

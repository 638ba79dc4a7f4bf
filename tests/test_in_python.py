# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""train() in a program or a notebook: what it shows, what it leaves behind, and how it answers a mistake."""

import re
import traceback

import pytest
import torch
from transformers.utils.logging import is_progress_bar_enabled

import hf_autoencoders


SHORT = {"max_train_steps": 2, "max_eval_samples": 8, "max_train_samples": 32, "num_threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "<one>"
    return hf_autoencoders.train(recipe="vae-digits", **SHORT, output_dir=folder)


def test_a_run_shows_its_metrics_and_its_pictures(run):
    shown = run._repr_html_()
    assert {"reconstructions"} <= set(run.pictures) and shown.count("<img ") == len(run.pictures)
    rows = dict(re.findall(r"<td>(\w+)</td><td>([^<]+)</td>", shown))
    assert rows["psnr"] == f"{run.metrics['psnr']:.4g}" and "squared_error" not in rows
    assert "&lt;one&gt;" in shown and "<one>" not in shown
    assert f"psnr {run.metrics['psnr']:.4g}" in repr(run) and len(repr(run)) < 400


def test_a_run_leaves_threads_and_progress_bars_as_they_were(tmp_path, progress_bars):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        hf_autoencoders.train(recipe="vae-digits", **SHORT, output_dir=tmp_path / "run")
        assert torch.get_num_threads() == 2 and is_progress_bar_enabled()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "knobs, said",
    [
        ({"recipe": "vae-digitz"}, "the nearest is 'vae-digits'"),
        ({"recipe": "vae-digits", "max_step": 5}, "the nearest known name is 'max_train_steps'"),
        ({"recipe": "vae-digits", "lr": 5}, "its name here is --learning_rate"),
        ({"recipe": "vae-digits", "backbone": "convv"}, "^`backbone` of a vae must be one of"),
        ({"model_type": "vae", "image_size": "big"}, r"doesn't match any type in \(int, .*\)\.$"),
        ({"recipe": "vae-digits", "help": True}, "hf-autoencoders train --help"),
        ({"model_type": "vae", "dataset_name": "./nothing"}, "there is no such folder"),
        ({"model_type": "vae", "learning_rate": object()}, "must be a number"),
    ],
)
def test_a_mistake_is_one_line_without_a_way_through_our_code(knobs, said, tmp_path):
    with pytest.raises(ValueError, match=said) as caught:
        hf_autoencoders.train(**{"output_dir": tmp_path / "run", **knobs})
    assert "\n" not in str(caught.value)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames][1:] == ["train"] and caught.value.__suppress_context__

# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Records side by side: what compares, what does not, and that the table says so."""

import json

import pytest

from hf_autoencoders.commands.compare import main
from hf_autoencoders.evaluation.comparison import comparison_table


PROTOCOL = {"net": "efficientnet-lite1", "pictures": 440, "versions": {"torch": "2.13.0"}}


def record(protocol=None, **metrics):
    return {"metrics": metrics, **({} if protocol is None else {"protocol": protocol})}


def test_metrics_of_one_protocol_stand_side_by_side_without_a_mark():
    lines = comparison_table({"l2": record(PROTOCOL, kid=0.25, psnr=24.0), "both": record(PROTOCOL, kid=0.1)})
    assert lines == ["| metric | l2 | both |", "|---|---:|---:|", "| kid | 0.25 | 0.1 |", "| psnr | 24 | - |"]


def test_a_record_under_another_protocol_is_marked_and_the_difference_named():
    other = {**PROTOCOL, "pictures": 300, "versions": {"torch": "2.12.0"}}
    lines = comparison_table({"a": record(PROTOCOL, kid=0.25), "b": record(other, kid=0.5)})
    assert "| kid | 0.25 | 0.5* |" in lines
    assert lines[-3:] == [
        "* b does not compare with a, since their protocols differ in",
        "  pictures: 440 and 300",
        "  versions: torch 2.13.0 and torch 2.12.0",
    ]


def test_records_without_a_protocol_are_held_to_their_data():
    data = {"name": "mnist", "eval_split": "test", "eval_images": 10_000, "image_shape": [1, 28, 28]}
    one, two = ({**record(mse=0.1), "dataset": {**data, "eval_images": count}} for count in (10_000, 500))
    assert comparison_table({"a": one, "b": one})[-1] == "| mse | 0.1 | 0.1 |"
    assert comparison_table({"a": one, "b": two})[-1] == "  pictures: 10000 and 500"
    assert "  net: unsaid and efficientnet-lite1" in comparison_table({"a": one, "b": record(PROTOCOL, mse=0.1)})


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(record(PROTOCOL, kid=0.25)))
    return tmp_path / "run"


def test_the_command_takes_folders_and_files(run, capsys):
    assert main([str(run), str(run / "metrics.json")]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "| kid | 0.25 | 0.25 |"


def test_the_command_ends_mistakes_with_one_line(run, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    for words, argument in (("There is no", tmp_path / "none"), ("holds no metrics", tmp_path / "other.json")):
        assert main([str(run), str(argument)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line and line.startswith("hf-autoencoders compare: ")


@pytest.mark.parametrize("wrong", [{"dataset": None}, {"dataset": "mnist"}, {"protocol": [1]}], ids=str)
def test_a_record_of_another_program_is_refused_in_one_line(tmp_path, capsys, wrong):
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": {"psnr": 1.0}, **wrong}))
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"its {next(iter(wrong))} is no JSON object" in line

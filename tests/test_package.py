# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What `pip install` gives: the wheel that the sdist makes, in an environment of its own, outside of the checkout."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import hf_autoencoders
from hf_autoencoders.commands.main import COMMANDS
from hf_autoencoders.own_process import as_typed, runs_a_command, typed_name


ROOT = Path(__file__).resolve().parents[1]
SHORT = ["--max_train_steps", "2", "--max_train_samples", "128", "--max_eval_samples", "32"]
# Each command in its short form, in the order of their needs.
WALK = [
    ["train", "--recipe", "vqvae-digits", *SHORT, "--output_dir", "vqvae"],
    ["train", "--recipe", "scripts/recipes/vae-digits-4x4.yaml", *SHORT, "--output_dir", "vae"]
    + ["--block_out_channels", "32", "64", "--norm_num_groups", "32"],
    ["train_prior", "--recipe", "prior-digits", "--image_tokenizer", "vqvae", *SHORT, "--output_dir", "prior"],
    ["train_latent_diffusion", "--recipe", "latent-diffusion-digits", "--image_model", "vae", *SHORT]
    + ["--sample_steps", "2", "--output_dir", "diffusion"],
    ["evaluate_model", "vae", "--max_train_samples", "128", "--max_eval_samples", "32", "--num_samples", "32"],
    ["compare", "vae", "vae/report"],
    ["encode_dataset", "--model", "vqvae", "--dataset_name", "digits", "--output_dir", "tokens"],
    ["sample", "--prior", "prior", "--image_tokenizer", "vqvae", "--labels", "3", "7", "--num_images", "4"],
    ["export", "vae", "--to", "ldm", "vae.safetensors"],
    ["convert", "vae.safetensors", "--output_dir", "converted", "--image_size", "8"],
    ["publish", "--space", "vqvae", "--output_dir", "space"],
    ["configs", "one_gpu"],
]
DRIVER = """
import json, sys
import hf_autoencoders, torch
from hf_autoencoders.commands.main import main

codes = {}
for words in json.loads(sys.argv[1]):
    print("#", *words, flush=True)
    codes[" ".join(words)] = main(words)
run = hf_autoencoders.train(recipe="vae-digits", max_train_steps=2, max_eval_samples=32, output_dir="notebook")
print(json.dumps({"file": hf_autoencoders.__file__, "codes": codes, "model": type(run.model).__name__,
                  "metrics": run.metrics, "pictures": sorted(run.pictures)}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The folder of an environment that holds the wheel, and of all else only what is installed here."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(ROOT / "hf_autoencoders", source / "hf_autoencoders", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    sdist = build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    wheel = build("wheel", next((folder / "unpacked").iterdir()), folder)
    venv.create(folder / "environment")
    python = folder / "environment/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder / "environment"), "platbase": str(folder / "environment")})
    (Path(paths["purelib"]) / "outer.pth").write_text(
        "\n".join(dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))) + "\n"
    )
    return folder / "environment"


def build(what: str, source: Path, folder: Path) -> Path:
    """An sdist or a wheel, as any installer asks setuptools for it."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{what}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=source, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


def outside(command: list, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """A program in `folder`, where nothing of the checkout is on any path."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}
    return subprocess.run(list(map(str, command)), cwd=folder, env=plain, capture_output=True, text=True, timeout=600)


def files_of_package(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in (folder / "hf_autoencoders").rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package(environment):
    """Also those that are not Python: recipes, card templates, what the demo runs in the browser."""
    (installed,) = environment.glob("lib/python*/site-packages")
    assert files_of_package(installed) == files_of_package(ROOT)


def test_an_editable_install_is_found_from_a_folder_that_holds_the_checkout(tmp_path):
    """A clone is named like the package: beside it, Python sees a folder of that name, which must not hide it."""
    checkout = tmp_path / "hf_autoencoders"
    for name in ("hf_autoencoders/__init__.py", "pyproject.toml", "README.md", "LICENSE"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    with zipfile.ZipFile(build("editable", checkout, tmp_path)) as wheel:
        wheel.extractall(tmp_path / "site")
    code = "import importlib.util, site, sys; site.addsitedir(sys.argv[1])\n"
    code += "print(importlib.util.find_spec('hf_autoencoders').origin)"
    # -S: without the install of this checkout itself.
    done = outside([sys.executable, "-S", "-c", code, tmp_path / "site"], tmp_path)
    assert done.stdout.strip() == str(checkout / "hf_autoencoders" / "__init__.py"), done.stderr


@pytest.mark.slow
def test_every_command_works_after_pip_install(environment, tmp_path):
    done = outside([environment / "bin/python", "-c", DRIVER, json.dumps(WALK)], tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert Path(said["file"]).is_relative_to(environment)
    assert said["codes"] == {" ".join(words): 0 for words in WALK}, done.stderr[-2000:]
    assert {words[0] for words in WALK} | {"demo"} == set(COMMANDS)  # the demo serves until it is stopped
    assert said["model"] == "VAEModel" and "mse" in said["metrics"] and "reconstructions" in said["pictures"]
    assert (tmp_path / "diffusion/pipeline/model_index.json").exists() and (tmp_path / "space/app.py").exists()


def test_the_console_command_lists_all_commands_without_torch(environment, tmp_path):
    done = outside([environment / "bin/python", "-X", "importtime", environment / "bin/hf-autoencoders"], tmp_path)
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hf_autoencoders.commands.main" in imported and not {"torch", "transformers", "numpy"} & imported


def test_a_command_lets_idle_threads_sleep_and_finds_every_name(environment, tmp_path):
    (tmp_path / "hf-autoencoders").write_text("import hf_autoencoders as h; print(h.VQVAEModel, h.register_quantizer)")
    done = outside([environment / "bin/python", "hf-autoencoders"], tmp_path, OMP_DISPLAY_ENV="TRUE")
    assert "modeling_vqvae.VQVAEModel" in done.stdout and "register_quantizer" in done.stdout
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


def test_a_script_of_a_checkout_is_a_command_and_a_script_of_the_same_name_elsewhere_is_not(tmp_path):
    for name in COMMANDS:
        door = ROOT / "scripts" / f"{name}.py"
        assert not door.exists() or runs_a_command(["python", "-u", str(door), "--help"])
    assert not runs_a_command(["python", str(tmp_path / "scripts" / "train.py")])


def test_hints_are_spelled_as_the_command_was_typed(tmp_path):
    hint = "hf-autoencoders sample RUN; accelerate launch -m hf_autoencoders.commands.train; hf-autoencoders configs"
    spellings = {
        "bin/hf-autoencoders": hint,
        str(tmp_path / "scripts" / "train.py"): hint,
        "scripts/train.py": "python scripts/sample.py RUN; accelerate launch scripts/train.py; hf-autoencoders configs",
        "-m hf_autoencoders.commands.train": "python -m hf_autoencoders.commands.sample RUN; "
        "accelerate launch -m hf_autoencoders.commands.train; python -m hf_autoencoders.commands.configs",
    }
    for program, expected in spellings.items():
        assert as_typed(hint, ["python", "-u", *program.split(" ")]) == expected
    assert typed_name("train", ["python", "scripts/train.py"]) == "train.py"
    assert typed_name("train", ["python", "-m", "pytest"]) == "hf-autoencoders train"


@pytest.mark.parametrize("path", sorted((ROOT / "hf_autoencoders").rglob("*.py")), ids=lambda path: path.stem)
def test_the_package_names_its_commands_in_the_one_spelling_that_is_translated(path):
    """Errors and hints say `hf-autoencoders train`, never train.py or scripts/train.py, which a wheel does not hold."""
    if path.stem in ("results", "results_page"):
        return  # they write pages of the repository
    tree = ast.parse(path.read_text())
    docs = {id(node.body[0].value) for node in ast.walk(tree) if has_docstring(node)}
    shown = [tree.body[0].value] if path.parent.name == "commands" and has_docstring(tree) else []  # by --help
    for node in [*shown, *(node for node in ast.walk(tree) if is_text(node) and id(node) not in docs)]:
        text = node.value if path.name != "publish.py" else node.value.replace("demo.py", "")  # the app of a Space
        assert not re.search(rf"\b({'|'.join(COMMANDS)})\.py\b|python scripts/(?!train_digits)", text), text


def has_docstring(node: ast.AST) -> bool:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node) is not None


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_accelerate_launches_a_command_as_a_module(environment, tmp_path):
    module = ["-m", "accelerate.commands.launch", "--cpu", "-m", "hf_autoencoders.commands.train"]
    flags = ["--recipe", "ae-digits", *SHORT, "--output_dir", "ae"]
    done = outside([environment / "bin/python", *module, *flags], tmp_path, OMP_DISPLAY_ENV="TRUE")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "ae/model.safetensors").exists()


def test_the_pythons_that_are_named_are_those_that_the_workflow_tests():
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    tested = re.search(
        r"^ +python-version: (\[.+\])$", (ROOT / ".github/workflows/tests.yml").read_text(), re.MULTILINE
    )
    assert named == json.loads(tested[1]) and f'requires-python = ">={named[0]}"' in project


def test_the_version_is_the_same_everywhere():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert version == hf_autoencoders.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()

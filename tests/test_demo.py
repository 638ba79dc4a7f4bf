# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the demo shows, without a browser and without gradio; the folder of a Space; mistakes in one line."""

import ast
import base64
import html
import io
import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training_runs import load_script
from transformers import AutoConfig, AutoModel, LlamaConfig, LlamaModel

from hf_autoencoders import AutoencoderImageProcessorPil
from hf_autoencoders.demo import widgets
from hf_autoencoders.demo.exhibit import PLANE_MARGIN, Backdrop, colours_of, open_exhibit, png_url
from hf_autoencoders.demo.space import REQUIREMENTS, push_space, write_space
from hf_autoencoders.evaluation import plots
from hf_autoencoders.evaluation.latent_space import PlaneWindow
from hf_autoencoders.hub.publish import PublishError


ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "hf_autoencoders/commands/demo.py"
BROWSER_FILES = ROOT / "hf_autoencoders/demo/files"
MLP = {"image_size": 8, "num_channels": 1, "backbone": "mlp", "hidden_sizes": (16,), "reconstruction_loss": "bce"}
CONV = {"image_size": 8, "num_channels": 1, "block_out_channels": (8, 8), "residual_channels": 4}
MODELS = {
    "ae": {**MLP, "latent_channels": 2},
    "vae": {**MLP, "latent_channels": 2},
    "vqvae": {**CONV, "codebook_size": 6, "codebook_dim": 4, "quantizer": "vq"},
    "residual": {**CONV, "codebook_size": 6, "codebook_dim": 4, "quantizer": "residual", "num_quantizers": 2},
    "dvae": {**CONV, "backbone": "conv", "codebook_size": 6, "codebook_dim": 4},
    "line": {**MLP, "latent_channels": 1},
}
MODEL_TYPES = {"residual": "vqvae", "line": "ae"}


def write_run(folder: Path, name: str, dataset: str | None = "digits") -> Path:
    torch.manual_seed(0)
    model_type = MODEL_TYPES.get(name, name)
    AutoModel.from_config(AutoConfig.for_model(model_type, **MODELS[name])).save_pretrained(folder)
    AutoencoderImageProcessorPil(size={"height": 8, "width": 8}, num_channels=1).save_pretrained(folder)
    if dataset is not None:
        (folder / "metrics.json").write_text(json.dumps({"dataset": {"name": dataset}, "metrics": {"mse": 1.0}}))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: write_run(folder / name, name) for name in MODELS}


@pytest.fixture(scope="module")
def exhibits(runs):
    return {name: open_exhibit(str(run), max_samples=60) for name, run in runs.items()}


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


# -- the plane ---------------------------------------------------------------------------------------------------------


def test_a_place_decodes_to_what_the_model_makes_of_its_latents(exhibits):
    exhibit = exhibits["vae"]
    place = exhibit.at(0.25, 0.75)
    window = exhibit.window
    z = [0.75 * window.left + 0.25 * window.right, 0.25 * window.bottom + 0.75 * window.top]
    assert place.coordinates == pytest.approx(z)
    with torch.no_grad():
        expected = exhibit.model.decode(torch.tensor(z).view(1, 2, 1, 1)).sample[0]
    torch.testing.assert_close(place.pixels, expected)


def test_a_place_outside_is_moved_to_the_edge(exhibits):
    outside, corner = exhibits["ae"].at(-3, 9), exhibits["ae"].at(0, 1)
    assert outside.coordinates == corner.coordinates and torch.equal(outside.pixels, corner.pixels)


def test_a_place_upon_a_code_is_no_gap_and_a_far_one_is(exhibits):
    exhibit = exhibits["ae"]
    window, code = exhibit.window, exhibit.backdrop.points.median(0).values
    nearest = exhibit.backdrop.points[(exhibit.backdrop.points - code).norm(dim=1).argmin()]
    x = (nearest[0] - window.left) / (window.right - window.left)
    y = (nearest[1] - window.bottom) / (window.top - window.bottom)
    on_it = exhibit.at(float(x), float(y))
    assert on_it.distance == pytest.approx(0, abs=1e-4) and not on_it.in_gap
    far = max((exhibit.at(x, y) for x in (0, 1) for y in (0, 1)), key=lambda place: place.distance)
    points = exhibit.backdrop.points
    assert far.distance == pytest.approx(float((points - torch.tensor(far.coordinates)).norm(dim=1).min()), rel=1e-4)
    assert far.in_gap == (far.distance > exhibit.gap_radius)


def test_ninety_nine_percent_of_the_codes_have_a_neighbour_within_the_gap_radius(exhibits):
    points = exhibits["vae"].backdrop.points
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).min(1).values
    assert exhibits["vae"].gap_radius == pytest.approx(float(torch.quantile(nearest, 0.99)), rel=1e-3)


def test_the_window_holds_the_codes_and_a_margin(exhibits):
    for name in ("ae", "vae"):
        window, points = exhibits[name].window, exhibits[name].backdrop.points
        inside = (points[:, 0] > window.left) & (points[:, 0] < window.right)
        assert inside.double().mean() >= 0.95
        low, high = np.quantile(points[:, 1].numpy(), [0.01, 0.99])
        assert window.top - high == pytest.approx(PLANE_MARGIN * (high - low), rel=1e-4)


def test_the_axes_lie_where_the_drag_expects_them(exhibits):
    """A point drawn at the window's corner is found at the corner of AXES_TO_DRAG in the picture."""
    exhibit = exhibits["vae"]
    figure = plots.plane_to_drag(exhibit.backdrop.points, None, None, exhibit.backdrop.plane, exhibit.window)
    figure.canvas.draw()
    left, bottom, width, height = plots.AXES_TO_DRAG
    axes = figure.axes[0]
    to_share = axes.transData + figure.transFigure.inverted()
    window = exhibit.window
    assert to_share.transform((window.left, window.bottom)) == pytest.approx((left, bottom))
    assert to_share.transform((window.right, window.top)) == pytest.approx((left + width, bottom + height))


def test_the_names_of_both_axes_lie_within_the_picture(exhibits):
    """With the long numbers of a photograph's components beside them, too."""
    backdrop = exhibits["vqvae"].backdrop
    figure = plots.plane_to_drag(backdrop.points, None, None, backdrop.plane, PlaneWindow(-200.0, 200.0, -200.0, 200.0))
    plots.to_png(figure)  # draws it
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        box = axis.label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_the_plane_comes_first_where_it_is_the_whole_latent_space(exhibits):
    tabs_of = load_script(DEMO).tabs_of
    assert tabs_of([exhibits["ae"], exhibits["vqvae"]]) == ["Plane", "Picture", "Interpolate", "Sample"]
    assert tabs_of([exhibits["vqvae"]]) == ["Picture", "Plane", "Interpolate", "Sample"]
    assert tabs_of([exhibits["line"]]) == ["Picture", "Interpolate", "Sample"]


def test_the_head_of_the_page_says_what_each_model_is(exhibits):
    line = load_script(DEMO).facts_line
    parameters = f"{exhibits['vqvae'].model.num_parameters():,} parameters"
    places = "4x4 places with one of 6 codes each"
    assert line(exhibits["vqvae"]) == f"vqvae, 8x8 pixels of 1 channel, {parameters}, {places}"
    assert line(exhibits["residual"]).endswith("4x4 places with 2 of 6 codes each")
    assert line(exhibits["vae"]).startswith("vae, 8x8") and "codes" not in line(exhibits["vae"])


def test_latents_of_one_dimension_have_no_plane(exhibits):
    assert not exhibits["line"].has_plane
    assert all(exhibits[name].has_plane for name in MODELS if name != "line")


# -- pictures and codes ------------------------------------------------------------------------------------------------


def test_decoding_the_codes_of_a_picture_is_its_reconstruction(exhibits):
    for name in ("vqvae", "residual", "dvae"):
        exhibit = exhibits[name]
        pixels = exhibit.read(exhibit.examples()[0])
        torch.testing.assert_close(exhibit.decode_codes(exhibit.codes(pixels)), exhibit.reconstruct(pixels)[0])


def test_a_click_on_a_code_repaints_the_picture_around_its_cell(exhibits):
    exhibit = exhibits["vqvae"]
    codes = exhibit.codes(exhibit.read(exhibit.examples()[0]))
    before = exhibit.decode_codes(codes)
    codes[1][2] = (codes[1][2] + 1) % 6
    changed = (exhibit.decode_codes(codes) - before).abs().sum(0)
    assert changed[2:4, 4:6].sum() > 0
    tokens = torch.tensor(codes)[None]
    torch.testing.assert_close(exhibit.decode_codes(codes), exhibit.model.decode_image_tokens(tokens)[0])


def test_each_code_of_each_level_has_a_colour(exhibits):
    for name in ("vqvae", "residual", "dvae"):
        for level in range(exhibits[name].levels):
            colours = exhibits[name].code_colours(level)
            assert len({tuple(colour) for colour in colours}) == 6 and all(
                0 <= part <= 255 for c in colours for part in c
            )
    assert exhibits["residual"].code_colours(0) != exhibits["residual"].code_colours(1)


def test_codes_with_similar_vectors_have_similar_colours():
    """Three far groups of vectors: the farthest colours of a group are nearer than the nearest of two groups."""
    torch.manual_seed(0)
    vectors = torch.randn(3, 1, 16) * 10 + torch.randn(3, 8, 16) * 0.1
    colours = colours_of(vectors.flatten(0, 1)).view(3, 8, 3).float()
    distances = torch.cdist(colours.flatten(0, 1), colours.flatten(0, 1)).view(3, 8, 3, 8)
    within = max(distances[group, :, group].max() for group in range(3))
    between = min(distances[a, :, b].min() for a in range(3) for b in range(3) if a != b)
    assert within < between


def test_a_perfect_decoding_has_no_noise_and_an_error_of_one_level_has_48_db(exhibits):
    pixels = torch.zeros(1, 8, 8)
    assert exhibits["ae"].psnr(pixels, pixels) == np.inf
    assert exhibits["ae"].psnr(pixels, pixels + 2 / 255) == pytest.approx(20 * np.log10(255))


def test_codes_of_a_residual_quantizer_have_a_level(exhibits):
    codes = exhibits["residual"].codes(exhibits["residual"].read(exhibits["residual"].examples()[0]))
    assert exhibits["residual"].levels == 2 and np.shape(codes) == (4, 4, 2)
    assert exhibits["vqvae"].levels == 1


def test_a_code_that_does_not_exist_is_refused(exhibits):
    with pytest.raises(ValueError, match="6"):
        exhibits["vqvae"].decode_codes([[6] * 4] * 4)


def test_a_grid_of_another_shape_is_refused_whoever_sends_it(exhibits):
    for name, codes in {"vqvae": [[0] * 400] * 400, "residual": [[0] * 4] * 4}.items():
        with pytest.raises(ValueError, match=r"have the shape \(4, 4"):
            exhibits[name].decode_codes(codes)


def test_the_palette_holds_each_code_once_and_bright_ones_first(exhibits):
    exhibit = exhibits["dvae"]
    assert sorted(exhibit.palette()) == list(range(6))
    used = int((exhibit.backdrop.counts > 0).sum())
    means = [exhibit.backdrop.atlas[code].float().mean() for code in exhibit.palette()[:used]]
    assert means == sorted(means, reverse=True)
    assert (exhibit.backdrop.counts[exhibit.palette()[used:]] == 0).all()


def test_pictures_of_any_kind_are_read_as_the_processor_reads_them(exhibits):
    exhibit = exhibits["ae"]
    for picture in (Image.new("RGBA", (40, 30), "red"), Image.new("L", (8, 8)), np.zeros((8, 8), np.uint8)):
        assert exhibit.read(picture).shape == (1, 1, 8, 8)
    example = exhibit.examples()[3]
    torch.testing.assert_close(exhibit.read(example)[0], exhibit.backdrop.examples[3] / 127.5 - 1)


def test_a_way_ends_at_the_reconstructions_of_its_ends(exhibits):
    exhibit = exhibits["vae"]
    a, b = (exhibit.read(exhibit.examples()[k]) for k in (0, 1))
    way = exhibit.way(a, b, 5)
    assert way.shape == (5, 1, 8, 8)
    torch.testing.assert_close(torch.stack([way[0], way[-1]]), exhibit.reconstruct(torch.cat([a, b])))


def test_a_seed_names_its_samples(exhibits):
    first, again, other = (exhibits["vae"].sample(4, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_url_holds_the_picture():
    assert pixels_of(png_url(np.array([[0.0, 0.5], [1.0, 0.25]]))).tolist() == [[0, 128], [255, 64]]


# -- what is known of the data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_backdrop_comes_back_from_its_file(exhibits, tmp_path, name):
    backdrop = exhibits[name].backdrop
    backdrop.save(tmp_path / "backdrop.safetensors")
    back = Backdrop.load(tmp_path / "backdrop.safetensors")
    assert (back.source, back.names) == (backdrop.source, backdrop.names)
    for field in ("examples", "points", "labels", "atlas", "counts"):
        one, other = getattr(backdrop, field), getattr(back, field)
        assert (one is None and other is None) or torch.equal(one, other), field
    if backdrop.plane is not None:
        points = torch.tensor([[0.5, -1.0]])
        assert torch.equal(back.plane.latents(points), backdrop.plane.latents(points))
        assert back.plane.axis_labels() == backdrop.plane.axis_labels()


def test_without_data_the_plane_shows_the_models_own_samples(tmp_path):
    exhibit = open_exhibit(str(write_run(tmp_path / "vae", "vae", dataset=None)), max_samples=40)
    assert exhibit.backdrop.source == "40 of the model's own samples"
    assert exhibit.backdrop.labels is None and exhibit.at(0.5, 0.5).pixels.shape == (1, 8, 8)


def test_data_that_were_asked_for_are_not_silently_replaced(runs):
    with pytest.raises(ValueError, match="nowhere"):
        open_exhibit(str(runs["vae"]), dataset_name="./nowhere")


# -- the script, where gradio may be missing ---------------------------------------------------------------------------


def test_without_gradio_one_line_names_the_extra(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "hf_autoencoders.commands.demo", raising=False)  # it is imported anew
    assert load_script(DEMO).main([str(runs["ae"])]) == 2
    assert (
        capsys.readouterr().err
        == 'hf-autoencoders demo: The demo needs gradio, the extra `demo`: pip install "hf_autoencoders[demo]"\n'
    )


def test_the_script_takes_one_model_or_two():
    script = load_script(DEMO)
    for runs in ([], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=f"one model or two, got {len(runs)}"):
            script.open_all(script.parse_arguments(runs))


@pytest.mark.parametrize("flag", ["--max_eval_samples 0", "--num_threads 0", "--port 70000"])
def test_a_number_out_of_range_is_one_line(runs, flag):
    script = load_script(DEMO)
    with pytest.raises(ValueError, match=f"{flag.split()[0]} must be .*, got {flag.split()[1]}"):
        script.open_all(script.parse_arguments([str(runs["ae"]), *flag.split()]))


def test_what_is_no_model_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="holds no model that can be loaded") as error:
        open_exhibit(str(tmp_path))
    assert "\n" not in str(error.value)
    damaged = write_run(tmp_path / "damaged", "ae")
    (damaged / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="damaged holds no model that can be loaded"):
        open_exhibit(str(damaged))
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    LlamaModel(config).save_pretrained(tmp_path / "prior")
    AutoencoderImageProcessorPil(size=8).save_pretrained(tmp_path / "prior")
    with pytest.raises(ValueError, match="is a llama: the demo shows autoencoders"):
        open_exhibit(str(tmp_path / "prior"))


# -- a Space -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space(runs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "space"
    return write_space([str(runs["ae"]), str(runs["vqvae"])], folder, DEMO, max_samples=30)


def test_the_space_says_what_the_hub_reads(space):
    head = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert head["sdk"] == "gradio" and head["app_file"] == "app.py" and head["title"] == "ae and vqvae"
    assert re.fullmatch(r"6\.\d+\.\d+", head["sdk_version"])
    assert (space / "app.py").read_bytes() == DEMO.read_bytes()


def test_the_space_holds_all_that_its_models_need(space):
    shown = json.loads((space / "space.json").read_text())["models"]
    assert [one["name"] for one in shown] == ["ae", "vqvae"]
    for one in shown:
        exhibit = open_exhibit(str(space / one["folder"]), one["name"], space / one["backdrop"])
        assert exhibit.backdrop.source == "30 held-out pictures" and exhibit.at(0.1, 0.2).pixels.shape == (1, 8, 8)
    assert not list(space.rglob("__pycache__")) and not (space / "models" / "0" / "metrics.json").exists()
    for path in BROWSER_FILES.iterdir():
        assert (space / "hf_autoencoders" / "demo" / "files" / path.name).read_bytes() == path.read_bytes()


def packages_imported_by(path: Path) -> set[str]:
    """Those of others that a file of ours imports at its top."""
    nodes = ast.parse(path.read_text()).body
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"hf_autoencoders"}


def test_the_app_imports_nothing_that_the_space_does_not_name(space):
    """Imported outside the repository, without whatever else this package needs for training."""
    hidden = "datasets", "diffusers", "torchmetrics", "gradio", "tensorboard"
    code = (
        "import sys, importlib.util\n"
        f"for name in {hidden}: sys.modules[name] = None\n"
        "spec = importlib.util.spec_from_file_location('app', 'app.py'); app = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(app)\n"
        "exhibits = app.open_all(app.parse_arguments([]))\n"
        "import hf_autoencoders; print(hf_autoencoders.__file__, *(one.name for one in exhibits))\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'hf_autoencoders'), sep='\\n')\n"
    )
    environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, '')\n" + code]
    done = subprocess.run(command, cwd=space, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    opened, *files = done.stdout.splitlines()
    assert opened.split() == [str(space / "hf_autoencoders" / "__init__.py"), "ae", "vqvae"]
    named = {re.split(r"[>=]", line)[0].lower() for line in REQUIREMENTS[1:]}
    owners = packages_distributions()
    imported = {owners[name][0].lower() for file in files for name in packages_imported_by(Path(file))}
    assert "torch" in imported and imported <= named


def test_requirements_are_those_of_the_package():
    declared = (ROOT / "pyproject.toml").read_text()
    for line in REQUIREMENTS[1:]:
        assert f'"{line}"' in declared, line
        assert version(line.split(">=")[0])


def test_a_clone_of_a_space_is_written_over_and_stays_a_clone(runs, tmp_path):
    first = write_space([str(runs["ae"]), str(runs["vae"])], tmp_path / "space", DEMO, max_samples=20)
    (first / ".git").mkdir()
    (first / ".git" / "HEAD").write_text("ref: refs/heads/main")
    second = write_space([str(runs["vae"])], first, DEMO, max_samples=20)
    assert (second / ".git" / "HEAD").exists() and (second / "backdrops" / "0.safetensors").exists()
    assert not (second / "backdrops" / "1.safetensors").exists()


def test_a_model_of_the_hub_stays_there(runs, tmp_path, monkeypatch):
    """Its id is written down, its files are not copied."""
    from hf_autoencoders.demo import space as module

    exhibit = open_exhibit(str(runs["vae"]), "org/vae", max_samples=20)
    monkeypatch.setattr(module, "open_exhibit", lambda *args, **knobs: exhibit)
    folder = write_space(["org/vae"], tmp_path / "space", DEMO)
    assert json.loads((folder / "space.json").read_text())["models"][0]["repo_id"] == "org/vae"
    assert yaml.safe_load((folder / "README.md").read_text().split("---")[1])["models"] == ["org/vae"]
    assert not (folder / "models").exists()


def test_a_folder_with_something_else_is_left_alone(runs, tmp_path):
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(ValueError, match="holds something else than a Space"):
        write_space([str(runs["ae"])], tmp_path, DEMO)
    assert (tmp_path / "mine").read_text() == "keep me"
    with pytest.raises(ValueError, match="one model or two, got 3"):
        write_space(["a", "b", "c"], tmp_path / "x", DEMO)


def test_a_space_is_published_in_one_commit_and_replaced_by_the_next(hub, client, space, runs, tmp_path):
    published = client(push_space, space, "org/planes")
    repository = hub.repositories["space", "org/planes"]
    assert published.url == f"{hub.url}/spaces/org/planes" and published.revision == repository.at("main").oid
    assert repository.titles == ["initial commit", "Publish the demo"]
    names = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    assert set(repository.files) - {".gitattributes"} == names
    smaller = write_space([str(runs["vae"])], tmp_path / "smaller", DEMO, max_samples=20)
    client(push_space, smaller, "org/planes")
    assert "backdrops/1.safetensors" not in hub.repositories["space", "org/planes"].files


def test_a_space_of_somebody_else_is_refused_unless_forced(hub, client, space):
    hub.add_repository("org/others", kind="space", files={"app.py": b"print('mine')"})
    with pytest.raises(PublishError, match="org/others exists and holds other files, such as app.py"):
        client(push_space, space, "org/others")
    client(push_space, space, "org/others", force=True)
    assert "space.json" in hub.repositories["space", "org/others"].files
    with pytest.raises(PublishError, match="may not write"):
        client(push_space, space, "org/new", token="hf_stranger")


def test_publish_py_writes_a_space_or_says_what_is_missing(runs, tmp_path, capsys):
    publish, folder = load_script(ROOT / "scripts/publish.py"), tmp_path / "space"

    def call(*arguments: str) -> str:
        code, said = publish.main(arguments), capsys.readouterr()
        return said.out if code == 0 else f"{code}: {said.err}"

    written = call("--space", str(runs["ae"]), "--output_dir", str(folder), "--dataset_name", "digits")
    assert written.startswith(f"Wrote the Space to {folder}") and (folder / "app.py").is_file()
    said = call("--space", str(tmp_path / "nothing"), "--output_dir", str(tmp_path / "other"))
    assert (
        said.startswith("2: hf-autoencoders publish: ") and "nothing holds no model" in said and said.count("\n") == 1
    )
    assert not (tmp_path / "other").exists()
    run = str(runs["ae"])
    for arguments in (["--space", run], [run], [run, "--space", run], [run, "--repo_id", "x/y", "--output_dir", "z"]):
        said = call(*arguments)
        assert said.startswith("2: hf-autoencoders publish: ") and said.count("\n") == 1
        if arguments == ["--space", run]:
            assert "--space needs --output_dir, --repo_id, or both" in said


# -- what runs in the browser ------------------------------------------------------------------------------------------


def test_each_widget_is_the_content_of_its_files():
    suffixes = {".html": "", ".css": "_CSS", ".js": "_JS"}
    names = {path.stem.upper() + suffixes[path.suffix]: path for path in BROWSER_FILES.iterdir()}
    for name, path in names.items():
        assert getattr(widgets, name).encode() == path.read_bytes()
    assert names.keys() == {name for name, value in vars(widgets).items() if name.isupper() and isinstance(value, str)}


# -- names from anywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["PLANES", "CANVAS", "BOARD", "PLANES_CSS", "CANVAS_CSS", "BOARD_CSS"])
def test_a_template_holds_only_values_that_the_demo_makes(template):
    """gradio runs a filled template as JavaScript, so a name of a folder in it would be executed."""
    text = getattr(widgets, template)
    handlebars, blocks = re.findall(r"\{\{([^#/}][^}]*)\}\}", text), re.findall(r"\{\{#(\w+)", text)
    assert {*handlebars, *re.findall(r"\$\{([^}]*)\}", text)} <= widgets.SAFE_VALUES
    assert set(blocks) <= {"each", "if"} and "`" not in text


def test_words_from_outside_are_no_html_and_no_template():
    hostile = "</h3><img onerror=x>`${document.title = 1}`{{this}}"
    shown = widgets.in_html(hostile)
    assert html.unescape(shown) == hostile
    assert not re.search(r"[<>`$]|\{\{", shown)


def test_scripts_set_names_and_captions_as_text():
    for script, words in ((widgets.PLANES_JS, ("name", "caption")), (widgets.BOARD_JS, ("name",))):
        for word in words:
            uses = [line for line in script.splitlines() if re.search(rf"(planes\[k\]|facts)\.{word}\b", line)]
            assert uses and all("textContent = " in line for line in uses)

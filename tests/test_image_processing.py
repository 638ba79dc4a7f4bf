# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Any picture in, [-1, 1] out, the same picture back; both backends; a checkpoint that loads on either machine."""

import base64
import doctest
import http.server
import io
import json
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import tensor
from transformers import AutoImageProcessor
from transformers.utils import is_torchvision_available

from hf_autoencoders.models import image_processing_autoencoder, image_reading
from hf_autoencoders.models.image_processing_autoencoder import AutoencoderImageProcessor, AutoencoderImageProcessorPil


needs_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
PIL_BACKEND = pytest.param(AutoencoderImageProcessorPil, id="pil")
TORCHVISION_BACKEND = pytest.param(AutoencoderImageProcessor, id="torchvision", marks=needs_torchvision)

GREY = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (28, 28, 3), dtype=np.uint8)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(params=[PIL_BACKEND, TORCHVISION_BACKEND])
def backend(request):
    return request.param


def pixels(processor, images, **kwargs):
    return processor(images, return_tensors="pt", **kwargs).pixel_values


def in_pixel_space(levels):
    """uint8 (H, W) or (H, W, C) -> float32 (C, H, W) in [-1, 1], the second way."""
    levels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
    return torch.from_numpy((levels / 127.5 - 1).astype(np.float32))


def test_black_is_minus_one_and_white_is_one(backend):
    levels = np.array([[0, 255], [51, 204]], dtype=np.uint8)
    assert pixels(backend(do_resize=False, num_channels=1), levels)[0, 0].tolist() == [
        [-1, 1],
        [pytest.approx(-0.6), pytest.approx(0.6)],
    ]


def test_every_level_stays_inside_the_pixel_space(backend):
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = pixels(backend(do_resize=False, num_channels=1), every_level)
    assert (out.min(), out.max()) == (-1, 1)


GREY_FORMS = {
    "uint8 (H, W)": GREY,
    "int64": GREY.astype(np.int64),
    "big-endian": GREY.astype(">i4"),
    "uint16": GREY.astype(np.uint16) * 257,
    "uint32": GREY.astype(np.uint32),
    "float32 0..255": GREY.astype(np.float32),
    "float64 0..1": GREY / 255,
    "bfloat16 batch": None,  # 8 bits of mantissa hold the levels 0..255
    "(1, H, W)": GREY[None],
    "(H, W, 1)": GREY[..., None],
    "(H, W, 3)": np.stack([GREY] * 3, -1),
    "(3, H, W)": np.stack([GREY] * 3),
    "mirrored twice": GREY[::-1][::-1],
    "Fortran order": np.asfortranarray(GREY),
    "list": [GREY],
    "list of lists": [[GREY]],
    "tensor": torch.from_numpy(GREY.copy()),
    "tensor that wants a gradient": torch.from_numpy(GREY / 255).requires_grad_(),
    "L": Image.fromarray(GREY),
    "RGB": Image.fromarray(GREY).convert("RGB"),
    "RGBA": Image.fromarray(GREY).convert("RGBA"),
    "LA": Image.fromarray(GREY).convert("LA"),
    "La": Image.fromarray(GREY).convert("LA").convert("La"),
    "P": Image.fromarray(GREY).convert("P"),
    "CMYK": Image.fromarray(GREY).convert("CMYK"),
    "I": Image.fromarray(GREY).convert("I"),
    "I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
    "F": Image.fromarray(GREY).convert("F"),
}
GREY_FORMS["bfloat16 batch"] = torch.from_numpy(GREY.copy()).to(torch.bfloat16)[None, None]


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("form", GREY_FORMS)
def test_one_grey_picture_in_any_form_gives_the_same_pixels(backend, form, num_channels):
    out = pixels(backend(do_resize=False, num_channels=num_channels), GREY_FORMS[form])
    torch.testing.assert_close(out, in_pixel_space(GREY).expand(1, num_channels, 28, 28), atol=1e-6, rtol=0)


COLOR_FORMS = {
    "(H, W, 3)": COLOR,
    "(3, H, W)": COLOR.transpose(2, 0, 1),
    "(1, H, W, 3)": COLOR[None],
    "tensor (3, H, W)": torch.from_numpy(COLOR.transpose(2, 0, 1).copy()),
    "float tensor": torch.from_numpy(COLOR.transpose(2, 0, 1) / 255),
    "RGB": Image.fromarray(COLOR),
    "RGBA": Image.fromarray(COLOR).convert("RGBA"),
    "RGBa": Image.fromarray(COLOR).convert("RGBA").convert("RGBa"),
    "RGBX": Image.fromarray(COLOR).convert("RGBX"),
}


@pytest.mark.parametrize("form", COLOR_FORMS)
def test_one_colour_picture_in_any_form_gives_the_same_pixels(backend, form):
    out = pixels(backend(do_resize=False), COLOR_FORMS[form])
    torch.testing.assert_close(out, in_pixel_space(COLOR)[None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", COLOR_FORMS)
def test_grey_from_colour_is_what_pil_calls_l(backend, form):
    out = pixels(backend(do_resize=False, num_channels=1), COLOR_FORMS[form])
    expected = in_pixel_space(np.array(Image.fromarray(COLOR).convert("L")))[None]
    exact = not getattr(COLOR_FORMS[form], "is_floating_point", bool)()  # floats are not rounded to levels
    torch.testing.assert_close(out, expected, atol=1e-6 if exact else 1.1 / 255, rtol=0)


def test_mode_1_and_booleans_are_black_and_white(backend):
    processor = backend(do_resize=False, num_channels=1)
    mask = GREY > 127
    for form in (mask, torch.from_numpy(mask), Image.fromarray(mask), mask.astype(np.float32)):
        assert torch.equal(pixels(processor, form)[0, 0], torch.from_numpy(np.where(mask, 1.0, -1.0)).float())


@pytest.mark.parametrize("count", [1, 2, 4, 5, 28])
def test_a_stack_of_digits_is_as_many_pictures(backend, count):
    digits = np.stack([np.roll(GREY, shift) for shift in range(count)])
    for form in (digits, torch.from_numpy(digits), digits[:, None], digits[..., None], list(digits)):
        out = pixels(backend(do_resize=False, num_channels=1), form)
        torch.testing.assert_close(out, torch.stack([in_pixel_space(digit) for digit in digits]), atol=1e-6, rtol=0)


def test_a_mixed_list_keeps_its_order(backend):
    wide = np.full((10, 20, 3), 51, dtype=np.uint8)
    out = pixels(backend(size=8), [GREY, wide, Image.new("RGB", (9, 9)), GREY / 255])
    assert out.shape == (4, 3, 8, 8)
    assert out[1].mean() == pytest.approx(-0.6) and out[2].max() == -1
    torch.testing.assert_close(out[0], out[3], atol=1.1 / 127.5, rtol=0)  # a resized float is not rounded to a level


def test_do_grayscale_drops_the_colour(backend):
    luma = pixels(backend(do_resize=False, num_channels=1), COLOR)
    assert torch.equal(pixels(backend(do_resize=False, do_grayscale=True), COLOR), luma)
    assert torch.equal(
        pixels(backend(do_resize=False, do_grayscale=True, num_channels=3), COLOR), luma.expand(1, 3, 28, 28)
    )


def test_alpha_is_laid_on_white_unless_told_otherwise(backend):
    half_red = np.array([[[255, 0, 0, 0], [255, 0, 0, 255]], [[255, 0, 0, 51], [0, 0, 0, 204]]], dtype=np.uint8)
    red_on_white = [[(255, 255, 255), (255, 0, 0)], [(255, 204, 204), (51, 51, 51)]]
    red_on_black = [[(0, 0, 0), (255, 0, 0)], [(51, 0, 0), (0, 0, 0)]]
    for form in (half_red, half_red / 255, Image.fromarray(half_red), torch.from_numpy(half_red)):
        processor = backend(do_resize=False)
        layout = {} if isinstance(form, Image.Image) else {"input_data_format": "channels_last"}
        assert processor.to_uint8(form, **layout)[0].permute(1, 2, 0).tolist() == [
            [list(c) for c in r] for r in red_on_white
        ]
        on_black = processor.to_uint8(form, background_color=0, **layout)
        assert on_black[0].permute(1, 2, 0).tolist() == [[list(c) for c in r] for r in red_on_black]


def test_a_transparent_palette_entry_shows_the_background(backend):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    assert backend(do_resize=False).to_uint8(image)[0, :, 0].T.tolist() == [list(RED), [255, 255, 255]]


@pytest.mark.parametrize("layout", [None, "channels_first", "channels_last"])
@pytest.mark.parametrize("width_height", [(5, 1), (5, 3), (5, 4), (3, 5), (1, 1), (4, 4)])
def test_the_layout_of_a_pil_picture_is_known_however_small(backend, width_height, layout):
    image = Image.new("RGB", width_height, BLUE)
    out = backend(do_resize=False).to_uint8(image, input_data_format=layout)
    assert out.shape == (1, 3, *reversed(width_height)) and out.amax((0, 2, 3)).tolist() == list(BLUE)


def exif_with_a_malformed_tag(orientation):
    """TIFF bytes of two tags: the orientation, and an image width whose type is "undefined"."""
    tags = struct.pack("<HHLHH", 0x112, 3, 1, orientation, 0) + struct.pack("<HHL4s", 0x100, 7, 4, b"junk")
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + tags + struct.pack("<L", 0)


def test_a_malformed_exif_tag_does_not_cost_the_picture(backend, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(COLOR[:20]).save(buffer, "JPEG", quality=95, exif=exif_with_a_malformed_tag(6))
    decoded = np.array(Image.open(buffer))
    out = backend(do_resize=False).to_uint8(Image.open(buffer))
    assert torch.equal(out[0].permute(1, 2, 0), torch.from_numpy(np.rot90(decoded, -1).copy()))
    monkeypatch.setattr(Image.Image, "getexif", lambda image: struct.unpack("<L", b""))
    assert torch.equal(backend(do_resize=False).to_uint8(Image.open(buffer))[0].permute(1, 2, 0), torch.tensor(decoded))


@pytest.fixture
def address_of(monkeypatch):
    """Bytes -> an address on this machine that serves them."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)

    def serve(data):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                """Quiet."""

        server.RequestHandlerClass = Handler
        return f"http://127.0.0.1:{server.server_address[1]}/picture.png"

    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield serve
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["transparent", "16-bit", "palette", "turned"])
def test_one_file_gives_the_same_pixels_however_it_comes(backend, kind, tmp_path, address_of):
    image, options = {
        "transparent": (Image.fromarray(np.dstack([COLOR, np.full((28, 28), 0, np.uint8)]), "RGBA"), {}),
        "16-bit": (Image.fromarray(np.full((28, 28), 300, np.uint16)), {}),
        "palette": (Image.fromarray(COLOR).convert("P"), {"transparency": 0}),
        "turned": (Image.fromarray(COLOR[:20]), {"exif": exif_with_a_malformed_tag(3)}),
    }[kind]
    image.save(tmp_path / "picture.png", **options)
    data = (tmp_path / "picture.png").read_bytes()
    text = base64.encodebytes(data).decode()
    forms = [
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        address_of(data),
        text,
        f"data:image/png;base64,{text}",
    ]
    processor = backend(do_resize=False, num_channels=1 if kind == "16-bit" else 3)
    expected = pixels(processor, Image.open(tmp_path / "picture.png"))
    for form in forms:
        assert torch.equal(pixels(processor, form), expected)
    if kind == "16-bit":
        assert torch.allclose(expected, torch.tensor(2 * 300 / 65535 - 1))
    if kind == "transparent":
        assert (expected == 1).all()


def test_text_that_is_no_picture_is_one_line(backend):
    with pytest.raises(ValueError, match="there is no file 'nowhere.png', and it is no http or https address"):
        backend()("nowhere.png")
    with pytest.raises(ValueError, match=r"\(5000 characters\)"):
        backend()("?" * 5000)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(backend, orientation, tmp_path):
    image = Image.fromarray(COLOR[:20])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    plain, flip, turn = COLOR[:20], np.fliplr, np.rot90
    upright = {1: plain, 2: flip(plain), 3: turn(plain, 2), 4: np.flipud(plain), 5: plain.swapaxes(0, 1),
               6: turn(plain, -1), 7: turn(plain, 2).swapaxes(0, 1), 8: turn(plain)}[orientation]  # fmt: skip
    for form in (str(tmp_path / "turned.png"), tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        out = backend(do_resize=False).to_uint8(form)
        assert torch.equal(out[0].permute(1, 2, 0), torch.from_numpy(upright.copy()))


def test_postprocess_gives_the_picture_back(backend):
    for levels, mode, channels in ((GREY, "L", 1), (COLOR, "RGB", 3)):
        processor = backend(do_resize=False, num_channels=channels)
        values = pixels(processor, [levels, levels])
        first, second = processor.postprocess(values)
        assert first.mode == mode and np.array_equal(first, levels) and np.array_equal(second, levels)
        assert processor.postprocess(values, "pt").shape == (2, channels, 28, 28)
        as_array = processor.postprocess(values.numpy(), output_type="np")
        assert as_array.shape == (2, 28, 28, channels)
        np.testing.assert_allclose(as_array[0].squeeze(), levels / 255, atol=1e-6)


def test_postprocess_clamps_and_takes_what_models_give():
    processor = AutoencoderImageProcessorPil()
    values = tensor([-3.0, -1.0, 0.0, 1.0, 3.0], requires_grad=True).bfloat16().reshape(1, 1, 5)  # one (C, H, W)
    assert list(processor.postprocess(values)[0].tobytes()) == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="NaN"):
        processor.postprocess(torch.full((1, 1, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="1, 3 or 4 channels, got 2"):
        processor.postprocess(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match='"pil", "np" or "pt", got \'jpg\''):
        processor.postprocess(torch.zeros(1, 1, 4, 4), "jpg")


def test_postprocess_undoes_any_scale():
    for knobs in ({"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, {"do_normalize": False},
                  {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}):  # fmt: skip
        processor = AutoencoderImageProcessorPil(do_resize=False, **knobs)
        assert np.array_equal(processor.postprocess(pixels(processor, COLOR))[0], COLOR)


def test_to_uint8_is_the_pixel_values_before_scaling(backend):
    processor = backend(size=20, num_channels=1)
    levels = processor.to_uint8([Image.fromarray(GREY), COLOR])
    assert levels.dtype == torch.uint8 and levels.shape == (2, 1, 20, 20)
    torch.testing.assert_close(
        levels.float() / 127.5 - 1, pixels(processor, [Image.fromarray(GREY), COLOR]), atol=1e-6, rtol=0
    )
    assert processor.to_uint8([GREY, GREY / 255]).dtype == torch.uint8  # integers and floats in one call


def test_padding_is_centred_and_black(backend):
    digits = np.full((3, 1, 28, 28), 255, dtype=np.uint8)
    processor = backend(do_resize=False, do_pad=True, pad_size=32, num_channels=1)
    out = pixels(processor, digits)
    assert out.shape == (3, 1, 32, 32)
    assert (out[..., 2:30, 2:30] == 1).all() and out.sum() == 3 * (28 * 28 - (32 * 32 - 28 * 28))  # the rest is -1
    assert (processor.to_uint8(digits, fill_value=7)[..., 0, :] == 7).all()
    with pytest.raises(ValueError, match=r"`pad_size` \(20, 20\) is smaller than a picture of .* \(28, 28\)"):
        processor(digits, pad_size=20)


def test_the_centre_is_cropped_and_a_small_picture_padded_first(backend):
    levels = np.arange(6 * 6, dtype=np.uint8).reshape(6, 6)
    processor = backend(do_resize=False, do_center_crop=True, crop_size={"height": 2, "width": 8}, num_channels=1)
    assert processor.to_uint8(levels)[0, 0].tolist() == [[0, *range(12, 18), 0], [0, *range(18, 24), 0]]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (16, (16, 16)),
        ((16, 12), (16, 12)),
        ({"shortest_edge": 10}, (10, 20)),
        ({"shortest_edge": 10, "longest_edge": 14}, (7, 14)),
        ({"max_height": 10, "max_width": 10}, (5, 10)),
    ],
)
def test_sizes(backend, size, shape):
    assert pixels(backend(size=size), Image.new("RGB", (40, 20))).shape == (1, 3, *shape)


@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_the_pil_backend_resizes_as_pil_does(resample):
    processor = AutoencoderImageProcessorPil(size=(11, 40), resample=resample)
    expected = np.array(Image.fromarray(COLOR).resize((40, 11), resample))
    assert np.array_equal(processor.to_uint8(COLOR)[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize(("came", "resized"), [((100, 100), (96, 96)), ((50, 200), (64, 256)), ((7, 5), (134, 96))])
def test_proportions_are_kept_until_the_size_is_covered(backend, came, resized):
    image = np.random.default_rng(0).integers(0, 256, (*came, 3), dtype=np.uint8)
    size = {"height": 64, "width": 96}
    out = backend(size=size, keep_proportions=True, do_center_crop=True, crop_size=size).to_uint8(image)
    stretched = backend(size=dict(zip(size, resized, strict=True)), do_center_crop=True, crop_size=size)
    assert out.shape == (1, 3, 64, 96) and torch.equal(out, stretched.to_uint8(image))


def test_resized_floats_keep_their_precision_and_range(backend):
    levels = np.zeros((28, 28))
    levels[:, 14:] = 1
    out = pixels(backend(size=56, num_channels=1), levels)
    assert out.min() == -1 and out.max() == 1  # bicubic overshoots by 7 % here before the clamp
    rounded = (out + 1) * 127.5
    assert (rounded - rounded.round()).abs().max() > 0.05


@needs_torchvision
@pytest.mark.parametrize("size", [16, 64])
def test_both_backends_resize_alike(size):
    pictures = [COLOR, np.roll(COLOR, 5)]
    one, other = (cls(size=size) for cls in (AutoencoderImageProcessor, AutoencoderImageProcessorPil))
    difference = (pixels(one, pictures) - pixels(other, pictures)).abs()
    assert difference.max() < 1.1 / 127.5 and difference.mean() < 1e-3  # one level of rounding, here and there
    floats = [picture / 255 for picture in pictures]
    torch.testing.assert_close(pixels(one, floats), pixels(other, floats), atol=1e-5, rtol=0)


def test_without_a_resize_both_backends_are_the_same_code():
    """Holds where torchvision is missing, too: only `_resize_stack`, and the guard, are the backends' own."""
    own = set(vars(AutoencoderImageProcessor)) | set(vars(AutoencoderImageProcessorPil))
    assert {name for name in own if not name.startswith("__")} == {"_resize_stack", "_auto_class"}


def test_return_types(backend):
    processor = backend(size=8)
    as_array = processor([GREY, COLOR], return_tensors="np").pixel_values
    assert isinstance(as_array, np.ndarray) and as_array.shape == (2, 3, 8, 8) and as_array.dtype == np.float32
    kind = np.ndarray if backend is AutoencoderImageProcessorPil else torch.Tensor
    ragged = processor([GREY, COLOR[:20]], do_resize=False).pixel_values
    assert all(isinstance(picture, kind) for picture in ragged)
    assert [tuple(picture.shape) for picture in ragged] == [(3, 28, 28), (3, 20, 28)]


BAD = {
    "already in [-1, 1]": (np.linspace(-1, 1, 784).reshape(28, 28), r"\[0, 1\] or in \[0, 255\], got -1 to 1"),
    "floats above 255": (np.full((8, 8), 256.5), r"got 256.5 to 256.5"),
    "infinite": (np.full((8, 8), np.inf), r"got inf to inf"),
    "NaN": (np.full((8, 8), np.nan), "NaN"),
    "negative integers": (np.full((8, 8), -1), r"0\.\.255, got -1 to -1"),
    "16 bits in int32": (np.full((8, 8), 4000, dtype=np.int32), r"0\.\.255, got 4000 to 4000.*uint16"),
    "two channels": (np.zeros((1, 2, 28, 28)), r"\(2, 28, 28\) .* `num_channels=3`: 1, 3, 4"),
    "five channels last": (np.zeros((28, 28, 5)), r"\(28, 28, 5\) .* `num_channels=3`: 1, 3, 4"),
    "five channels in a list": ([np.zeros((5, 28, 28))], r"\(5, 28, 28\) .* `num_channels=3`"),
    "one axis": (np.zeros(784), r"got shape \(784,\)"),
    "five axes": (np.zeros((1, 1, 3, 8, 8)), r"got shape \(1, 1, 3, 8, 8\)"),
    "empty list": ([], "empty list"),
    "empty picture": (np.zeros((0, 28)), "no pixels"),
    "number": (3, "got int"),
    "None in a list": ([GREY, None], "Picture 1 of 2 .* got NoneType"),
    "text array": (np.array([["a"]]), "dtype <U1"),
    "complex": (np.zeros((8, 8), dtype=complex), "dtype complex128"),
    "no such file": ("/no/such/picture.png", "/no/such/picture.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_one_clear_error(backend, case):
    images, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        backend(do_resize=False)(images)


def test_a_wrong_channel_count_says_what_came_and_what_fits(backend):
    with pytest.raises(ValueError, match="`num_channels=5` takes pictures of 5 channels, got 3"):
        backend(num_channels=5)(COLOR)
    assert pixels(backend(do_resize=False, num_channels=5), np.zeros((5, 8, 9))).shape == (1, 5, 8, 9)
    assert pixels(backend(do_resize=False, num_channels=4), np.zeros((8, 9, 4))).shape == (1, 4, 8, 9)
    assert pixels(backend(do_convert_rgb=False, do_resize=False), np.zeros((8, 9, 4))).shape == (1, 4, 8, 9)
    with pytest.raises(ValueError, match="`image_mean` has 3 values, but the pictures have 1 channels"):
        backend(num_channels=1, image_mean=[0.5] * 3)(GREY)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_channels": 0}, "`num_channels` must be at least 1, got 0"),
        ({"num_channels": 1, "do_convert_rgb": True}, "gives 3 channels, but `num_channels` is 1"),
        ({"max_pixels": 0}, "`max_pixels` must be at least 1"),
        ({"fill_value": -1}, r"`fill_value` is a grey level in 0\.\.255, got -1"),
        ({"background_color": 256}, r"`background_color` .* got 256"),
        ({"do_pad": True}, "needs a `pad_size`"),
        ({"data_format": "channels_last"}, "channels first"),
        ({"size": {"longest_edge": 8}}, "`size` takes height and width"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 8}}, "`crop_size` takes height and width"),
    ],
)
def test_a_bad_knob_is_one_clear_error(backend, knobs, message):
    with pytest.raises(ValueError, match=message):
        backend(**knobs)(GREY)


def test_pictures_of_different_sizes_make_no_batch(backend):
    with pytest.raises(ValueError, match=r"\(3, 20, 28\), \(3, 28, 28\)"):
        backend(do_resize=False)([COLOR, COLOR[:20]], return_tensors="pt")


def test_a_corrupt_file_is_named_by_its_place(backend, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(COLOR).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:400])
    (tmp_path / "text.png").write_text("no picture")
    with Image.open(tmp_path / "cut.png") as cut:  # noqa: SIM117
        with pytest.raises(ValueError, match="Picture 1 of 2 cannot be used: .*truncated"):
            backend()([GREY, cut])
    with pytest.raises(ValueError, match="cannot identify"):
        backend()(tmp_path / "text.png")


def test_a_very_large_picture_is_refused_before_it_is_decoded(backend, tmp_path, monkeypatch):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "huge.png")  # 90 million pixels in a few kilobytes
    with pytest.warns(Image.DecompressionBombWarning):
        image = Image.open(tmp_path / "huge.png")
    monkeypatch.setattr(image, "load", lambda: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"10000 x 9000 = 90,000,000 pixels exceed `max_pixels` = 89,478,485"):
        backend()(image)
    image.close()
    with pytest.raises(ValueError, match="784 pixels exceed `max_pixels` = 783"):
        backend(max_pixels=783)(GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="decompression bomb"):
        backend(max_pixels=None)(str(tmp_path / "huge.png"))


def test_a_file_that_comes_as_text_is_checked_before_it_is_decoded_too(backend):
    buffer = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(buffer, "PNG")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ValueError, match="exceed `max_pixels`"):
        backend()(base64.b64encode(buffer.getvalue()).decode())


def test_a_long_thin_picture_is_cut_before_it_is_enlarged(backend):
    line = np.tile(np.arange(250, dtype=np.uint8), 80)[None]  # (1, 20000)
    processor = backend(num_channels=1, size={"shortest_edge": 256}, do_center_crop=True, crop_size=256)
    out = processor.to_uint8(line)
    middle = line[:, 9990:10010]
    whole = processor.to_uint8(middle)  # small enough to be resized whole
    assert out.shape == (1, 1, 256, 256) and torch.equal(out, whole)
    with pytest.raises(ValueError, match=r"\(1, 20000\) would be resized to \(256, 5120000\): more than `max_pixels`"):
        backend(size={"shortest_edge": 256})(line)


def test_floats_are_judged_together():
    """An all but black picture among others on 0..255 is not taken for one on 0..1."""
    dark, bright = np.full((8, 8), 1.0), np.full((8, 8), 255.0)
    processor = AutoencoderImageProcessorPil(do_resize=False, num_channels=1)
    assert processor.to_uint8([dark, bright]).amax((1, 2, 3)).tolist() == [1, 255]
    assert processor.to_uint8(dark).max() == 255
    assert pixels(processor, np.full((8, 8), 1 + 1e-6)).max() == 1  # a rounding error is no level of 1 / 255


def test_do_rescale_false_takes_floats_as_they_are(backend):
    values = torch.rand(2, 3, 8, 8) * 2 - 1
    processor = backend(do_resize=False, do_rescale=False, do_normalize=False)
    assert torch.equal(pixels(processor, values), values)


def test_masks_of_zero_and_one_are_warned_of(monkeypatch):
    warnings = []
    monkeypatch.setattr(image_reading.logger, "warning_once", warnings.append)
    AutoencoderImageProcessorPil()((GREY > 127).astype(np.uint8))
    assert "exceeds 1 of 255" in warnings[0]
    AutoencoderImageProcessorPil()([GREY, np.zeros((28, 28), dtype=np.uint8)])
    assert len(warnings) == 1


def test_three_grey_pictures_that_look_like_a_colour_one_are_warned_of(monkeypatch):
    warnings = []
    monkeypatch.setattr(image_reading.logger, "warning_once", warnings.append)
    assert pixels(AutoencoderImageProcessorPil(num_channels=1), np.stack([GREY] * 3)).shape[0] == 1
    assert "Pass three grey ones as (3, 1, H, W)" in warnings[0]


KNOBS = {"size": {"height": 12, "width": 16}, "num_channels": 1, "resample": 2, "image_mean": 0.25, "max_pixels": 10**6,
         "do_pad": True, "pad_size": {"height": 20, "width": 20}, "fill_value": 9, "background_color": 0}  # fmt: skip


def test_save_and_load_keep_every_knob(backend, tmp_path):
    processor = backend(**KNOBS)
    processor.save_pretrained(tmp_path)
    again = backend.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert {name: getattr(again, name) for name in KNOBS} == KNOBS
    assert torch.equal(pixels(again, COLOR), pixels(processor, COLOR))
    assert backend.from_pretrained(tmp_path, num_channels=3).num_channels == 3


def test_a_checkpoint_names_both_backends_whichever_saved_it(backend, tmp_path):
    processor = backend(**KNOBS)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "AutoencoderImageProcessor"
    assert saved["auto_map"]["AutoImageProcessor"] == {
        "pil": "image_processing_autoencoder.AutoencoderImageProcessorPil",
        "torchvision": "image_processing_autoencoder.AutoencoderImageProcessor",
    }
    best = AutoencoderImageProcessor if is_torchvision_available() else AutoencoderImageProcessorPil
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is best
    assert type(AutoImageProcessor.from_pretrained(tmp_path, backend="pil")) is AutoencoderImageProcessorPil


LOAD_WITHOUT_THE_PACKAGE = """
import sys
import threading
if sys.argv[2] == "pil":
    sys.modules["torchvision"] = None    # as on a machine without it
import numpy as np
from transformers import AutoImageProcessor
processor = AutoImageProcessor.from_pretrained(sys.argv[1], trust_remote_code=True, backend=sys.argv[2])
assert "hf_autoencoders" not in sys.modules
np.save(sys.argv[3], processor(np.load(sys.argv[4]), return_tensors="np").pixel_values)
processor.save_pretrained(sys.argv[5])   # and once more from there
print(type(processor).__name__)
"""


def test_a_checkpoint_loads_without_the_package(backend, tmp_path):
    """Saved with either backend, loaded by a process that never imports hf_autoencoders."""
    processor = backend(do_resize=False, num_channels=1)
    processor.save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "in.npy", COLOR)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    for name in ["pil", "torchvision"] if is_torchvision_available() else ["pil"]:
        out, again = tmp_path / f"{name}.npy", tmp_path / f"again-{name}"
        arguments = [tmp_path / "saved", name, out, tmp_path / "in.npy", again]
        command = [sys.executable, "-c", LOAD_WITHOUT_THE_PACKAGE, *map(str, arguments)]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.split()[-1] == "AutoencoderImageProcessor" + ("Pil" if name == "pil" else "")
        assert np.array_equal(np.load(out), pixels(processor, COLOR).numpy())
        config, second = (folder / "preprocessor_config.json" for folder in (tmp_path / "saved", again))
        assert json.loads(config.read_text()) == json.loads(second.read_text())


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_without_torchvision_its_backend_says_so():
    with pytest.raises(ImportError, match="AutoencoderImageProcessorPil gives the same pixels without it"):
        AutoencoderImageProcessor()


def test_defaults_in_the_docstring_are_the_defaults():
    documented = image_processing_autoencoder.AutoencoderImageProcessorKwargs.__doc__
    for name in ("do_grayscale", "keep_proportions", "background_color", "fill_value", "max_pixels"):
        line = next(line for line in documented.splitlines() if line.strip().startswith(name))
        assert line.rstrip("):").split()[-1] == str(getattr(AutoencoderImageProcessorPil, name))


def test_the_examples_in_the_docstrings_run():
    failed, tried = doctest.testmod(image_processing_autoencoder)
    assert tried >= 2 and failed == 0

import contextlib
import itertools
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from data_pipeline.config import DataConfig
from data_pipeline.views.augmentation import evaluation_views
from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.image_file import decode_rgb, image_header
from resnet_dist.runtime.preprocess import Preprocess

MAX_PIXELS = 1_000_000
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "BMP": {}, "PPM": {}}
# Where the upright image's rows and columns are in what is stored, from the EXIF standard.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def decode(data, bit_depth=None):
    return decode_rgb(data, bit_depth=bit_depth, max_pixels=MAX_PIXELS)


def header(data):
    return image_header(data, max_pixels=MAX_PIXELS)


def contract(**changes):
    fields = {
        "mode": "whole",
        "size": 32,
        "crop_fraction": 0.875,
        "pad_colour": (124, 116, 104),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "bit_depth": None,
        "max_pixels": MAX_PIXELS,
    }
    return Preprocess(**(fields | changes))


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize(("width", "height"), [(31, 17), (1, 1), (1, 9)])
def test_decodes_lossless_colour_exactly(image_files, kind, width, height):
    photo = image_files.photo(width, height)
    data = image_files.encode(photo, kind, **LOSSLESS[kind])
    pixels = decode(data)
    assert np.array_equal(pixels, photo)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert header(data)[:2] == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_every_orientation_comes_out_upright(image_files, kind, orientation):
    upright = image_files.photo(40, 24)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    options = LOSSLESS.get(kind, {"quality": 95, "subsampling": 0})
    data = image_files.turned(stored, kind, orientation, **options)
    pixels = decode(data)
    assert pixels.shape == upright.shape
    difference = np.abs(pixels.astype(int) - upright)
    assert difference.max() <= (8 if kind == "JPEG" else 0)
    width, height, plain = header(data)
    assert (width, height) == (40, 24)
    assert plain == (kind == "JPEG" or (kind == "PNG" and orientation == 1))


@pytest.mark.parametrize("nonsense", [0, 9, 65535])
def test_an_impossible_orientation_is_none(image_files, nonsense):
    photo = image_files.photo(12, 8)
    assert np.array_equal(decode(image_files.turned(photo, "PNG", nonsense)), photo)


def test_an_orientation_in_xmp_counts_and_is_not_plain(image_files):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = image_files.encode(image_files.photo(40, 24), "JPEG", xmp=xmp)
    assert decode(data).shape == (40, 24, 3)
    assert header(data) == (24, 40, False)


def test_unreadable_exif_leaves_the_image_as_it_is(image_files):
    photo = image_files.photo(12, 8)
    data = image_files.encode(photo, "PNG", exif=b"Exif\0\0no TIFF header at all")
    assert np.array_equal(decode(data), photo)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_has_three_equal_channels(image_files, kind, mode):
    picture = Image.fromarray(image_files.photo(20, 10, channels=1))
    pixels = decode(image_files.encode(picture.convert(mode), kind if kind != "WEBP" or mode == "L" else "PNG"))
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 1])
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
    if kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(pixels[:, :, 0], np.asarray(picture.convert(mode).convert("L")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P with alpha", "P with a colour key", "RGB with a colour key"])
def test_alpha_is_dropped_not_composited(image_files, mode):
    colours = np.array([[[10, 200, 30], [200, 10, 90]]], dtype=np.uint8)
    rgba = np.dstack([colours, np.zeros((1, 2), dtype=np.uint8)])
    paletted = Image.new("P", (2, 1))
    paletted.putpalette([10, 200, 30, 200, 10, 90])
    paletted.putdata([0, 1])
    expected = colours
    match mode:
        case "RGBA":
            data = image_files.encode(rgba, "PNG")
        case "LA":
            data = image_files.png(np.array([[[7, 0], [90, 0]]]), 8, 4)
            expected = np.array([[[7] * 3, [90] * 3]])
        case "P with alpha":
            data = image_files.encode(paletted, "PNG", transparency=bytes([0, 0]))
        case "P with a colour key":
            data = image_files.encode(paletted, "PNG", transparency=0)
        case _:
            data = image_files.encode(colours, "PNG", transparency=(10, 200, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(data), expected)
    assert not header(data)[2]


def test_cmyk_is_converted_and_not_plain(image_files):
    photo = image_files.photo(32, 24)
    data = image_files.encode(photo, "JPEG", mode="CMYK", quality=95, subsampling=0)
    assert np.abs(decode(data).astype(int) - photo).mean() < 3
    assert not header(data)[2]


def test_only_the_first_frame_of_a_gif_counts(image_files):
    frames = [Image.fromarray(image_files.photo(9, 7, seed=seed)).quantize(16) for seed in (1, 2)]
    data = image_files.encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("bit_depth", [10, 12, 16])
@pytest.mark.parametrize(
    "kind", ["grey PNG", "grey TIFF", "RGB PNG", "RGBA PNG", "RGB TIFF", "big-endian TIFF", "deflated TIFF"]
)
def test_sixteen_bits_are_scaled_by_the_depth_and_rounded(image_files, kind, bit_depth):
    values = np.random.default_rng(3).integers(0, 2**bit_depth, (6, 7, 4), dtype=np.uint16)
    values[0, :4, :] = np.array([0, 1, 2**bit_depth - 1, 2**bit_depth // 2])[:, None]
    colour = values[:, :, :3]
    match kind:
        case "grey PNG":
            data, stored = image_files.encode(values[:, :, 0].copy(), "PNG"), values[:, :, :1]
        case "grey TIFF":
            data, stored = image_files.encode(values[:, :, 0].copy(), "TIFF"), values[:, :, :1]
        case "RGB PNG":
            data, stored = image_files.png(colour, 16, 2), colour
        case "RGBA PNG":
            data, stored = image_files.png(values, 16, 6), colour
        case "RGB TIFF":
            data, stored = image_files.tiff16(colour), colour
        case "deflated TIFF":
            data, stored = image_files.tiff16(colour, deflated=True), colour
        case _:
            data, stored = image_files.tiff16(colour, order=">"), colour
    expected = [int(value * 255 / (2**bit_depth - 1) + 0.5) for value in stored.astype(float).ravel()]
    shape = (6, 7, 3)
    assert np.array_equal(decode(data, bit_depth), np.broadcast_to(np.reshape(expected, stored.shape), shape))
    assert not header(data)[2]


def test_values_above_the_depth_are_clipped(image_files):
    data = image_files.encode(np.array([[4095, 5000, 65535, 100]], dtype=np.uint16), "PNG")
    assert decode(data, 12)[0, :, 0].tolist() == [255, 255, 255, 6]


def test_sixteen_bit_colour_honours_orientation(image_files):
    upright = np.random.default_rng(5).integers(0, 65536, (4, 6, 3), dtype=np.uint16)
    data = image_files.tiff16(np.ascontiguousarray(STORED[6](upright)), orientation=6)
    assert np.array_equal(decode(data, 16), np.rint(upright / 257.0))
    assert header(data) == (6, 4, False)


@pytest.mark.parametrize("kind", ["grey", "RGB PNG", "RGB TIFF", "RGB PPM"])
def test_sixteen_bits_without_a_depth_name_the_remedy(image_files, kind):
    values = np.full((2, 3, 3), 4000, dtype=np.uint16)
    data = {
        "grey": lambda: image_files.encode(values[:, :, 0].copy(), "PNG"),
        "RGB PNG": lambda: image_files.png(values, 16, 2),
        "RGB TIFF": lambda: image_files.tiff16(values),
        "RGB PPM": lambda: b"P6\n3 2\n65535\n" + values.astype(">u2").tobytes(),
    }[kind]()
    with pytest.raises(UnreadableImageError, match=r"data\.bit_depth"):
        decode(data)


def test_a_pgm_says_its_own_depth_unless_it_is_the_largest():
    values = np.array([0, 100, 4095], dtype=">u2")
    assert decode(b"P5\n3 1\n4095\n" + values.tobytes())[0, :, 0].tolist() == [0, 6, 255]
    assert decode(b"P5\n3 1\n65535\n" + values.tobytes(), 12)[0, :, 0].tolist() == [0, 6, 255]
    assert decode(b"P2\n3 1\n4095\n0 100 4095\n")[0, :, 0].tolist() == [0, 6, 255]
    assert decode(b"P2\n3 1\n65535\n0 100 4095\n", 12)[0, :, 0].tolist() == [0, 6, 255]


def test_layouts_that_pillow_would_misread_are_refused(image_files):
    values = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    for data, reason in (
        (image_files.tiff16(values, planes=True), "separate planes"),
        (image_files.png(values[:, :, :2], 16, 4), "LA;16B"),
        (image_files.encode(np.zeros((2, 2), dtype=np.float32), "TIFF"), "floating-point"),
    ):
        with pytest.raises(UnreadableImageError, match=f"{reason}.*convert it"):
            decode(data, 12)


def test_damaged_files_are_unreadable_with_a_short_reason(image_files):
    for name, data in image_files.damaged().items():
        with pytest.raises(UnreadableImageError) as raised:
            decode(data)
        assert 0 < len(str(raised.value)) < 300, name
        assert "\n" not in str(raised.value)


@given(st.data())
def test_any_bytes_are_an_image_or_unreadable(image_files, data):
    kinds = [("JPEG", {}), *LOSSLESS.items(), ("GIF", {})]
    kind, options = data.draw(st.sampled_from(kinds))
    whole = bytearray(image_files.encode(image_files.photo(9, 5), kind, **options))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some damaged tags
        # Anything but UnreadableImageError ends the test.
        with contextlib.suppress(UnreadableImageError):
            assert decode(cut, 12).shape[2] == 3
        with contextlib.suppress(UnreadableImageError):
            assert min(header(cut)[:2]) >= 1


def test_the_bound_on_pixels_is_checked_before_decoding(image_files):
    # 60000 x 60000: 10 GB once decoded, a few bytes in the file.
    bomb = image_files.png(np.zeros((1, 1, 3)), 8, 2).replace(
        image_files.png_chunk(b"IHDR", bytes.fromhex("00000001000000010802000000")),
        image_files.png_chunk(b"IHDR", bytes.fromhex("0000ea600000ea600802000000")),
    )
    for read in (decode, header):
        with pytest.raises(UnreadableImageError, match=r"60000x60000.*data\.max_pixels=1000000"):
            read(bomb)


def test_the_bound_on_pixels_is_ours_not_pillows(image_files, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    photo = image_files.photo(30, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(image_files.encode(photo, "PNG")), photo)
    with pytest.raises(UnreadableImageError):
        decode_rgb(image_files.encode(photo, "PNG"), bit_depth=None, max_pixels=599)
    decode_rgb(image_files.encode(photo, "PNG"), bit_depth=None, max_pixels=600)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "plain"),
    [
        ("JPEG", "RGB", {}, True),
        ("JPEG", "L", {"progressive": True}, True),
        ("JPEG", "RGB", {"keep_rgb": True}, False),
        ("PNG", "RGB", {}, True),
        ("PNG", "L", {}, True),
        ("PNG", "1", {}, False),
        ("PNG", "P", {}, False),
        ("BMP", "RGB", {}, True),
        ("BMP", "L", {}, True),
        ("BMP", "1", {}, False),
        ("BMP", "P", {}, False),
        ("BMP", "RGBA", {}, False),
        ("TIFF", "RGB", {}, False),
        ("WEBP", "RGB", {}, False),
        ("PPM", "RGB", {}, False),
        ("GIF", "L", {}, False),
    ],
)
def test_which_files_are_plain(image_files, kind, mode, options, plain):
    data = image_files.encode(image_files.photo(12, 9), kind, mode=mode, **options)
    assert header(data) == (12, 9, plain)


def test_a_run_length_encoded_bmp_is_read_and_not_plain(image_files):
    grey = image_files.photo(12, 9, channels=1)
    data = image_files.bmp_rle(grey)
    assert np.array_equal(decode(data), np.repeat(grey[:, :, None], 3, axis=2))
    assert header(data) == (12, 9, False)


def test_an_animated_png_is_not_plain(image_files):
    frames = [Image.fromarray(image_files.photo(9, 7, seed=seed)) for seed in (1, 2)]
    assert not header(image_files.encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))[2]


def test_a_colour_profile_and_a_second_picture_leave_a_jpeg_plain(image_files):
    photo = image_files.photo(160, 80)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert header(image_files.encode(photo, "JPEG", icc_profile=profile))[2]
    other = Image.fromarray(image_files.photo(160, 80, seed=2))
    multi = image_files.encode(photo, "MPO", save_all=True, append_images=[other], quality=95)
    assert header(multi) == (160, 80, True)
    assert np.abs(decode(multi).astype(int) - photo).mean() < 4


@given(
    mode=st.sampled_from(["whole", "letterbox", "center_crop"]),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    size=st.integers(16, 600),
    input_width=st.none() | st.integers(16, 600),
    fraction=st.floats(0.05, 1.0),
)
def test_places_images_exactly_as_the_pipelines_evaluation_views(mode, width, height, size, input_width, fraction):
    data = DataConfig(resize=mode, image_size=size, image_width=input_width, crop_fraction=fraction)
    view = evaluation_views(data, np.array([[width, height]], dtype=np.int32))
    inner, offset = contract(
        mode=mode, size=size if input_width is None else (size, input_width), crop_fraction=fraction
    )._placed(width, height)
    assert view.window[0].tolist() == [0, 0, width, height]
    assert view.inner[0].tolist() == list(inner)
    assert view.offset[0].tolist() == list(offset)
    assert view.canvas[0].tolist() == [input_width or size, size]


@given(
    mode=st.sampled_from(["whole", "letterbox", "center_crop"]),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(16, 40),
    fraction=st.floats(0.5, 1.0),
)
def test_pixels_are_the_view_applied_step_by_step(image_files, mode, width, height, size, fraction):
    photo = image_files.photo(width, height)
    view = evaluation_views(
        DataConfig(resize=mode, image_size=size, crop_fraction=fraction), np.array([[width, height]], dtype=np.int32)
    )
    (wide, high), (left, top) = view.inner[0].tolist(), view.offset[0].tolist()
    resized = np.asarray(Image.fromarray(photo).resize((wide, high), Image.Resampling.BILINEAR))
    expected = np.empty((size, size, 3), dtype=np.uint8)
    expected[:] = (1, 2, 3)
    for y, x in itertools.product(range(size), range(size)):
        if 0 <= y - top < high and 0 <= x - left < wide:
            expected[y, x] = resized[y - top, x - left]
    applied = contract(mode=mode, size=size, crop_fraction=fraction, pad_colour=(1, 2, 3)).apply(photo)
    assert np.array_equal(applied, expected)
    assert applied.dtype == np.uint8


def test_whole_and_crop_leave_no_padding_and_letterbox_keeps_it_outside():
    white = np.full((20, 80, 3), 255, dtype=np.uint8)
    for mode in ("whole", "center_crop"):
        assert (contract(mode=mode, pad_colour=(0, 0, 0)).apply(white) == 255).all()
    boxed = contract(mode="letterbox", pad_colour=(0, 0, 0)).apply(white)
    assert (boxed[12:20] == 255).all()
    assert (boxed[:12] == 0).all()
    assert (boxed[20:] == 0).all()


def test_shrinking_averages_over_all_pixels():
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(contract(size=16).apply(stripes).astype(int) - 128).max() <= 8


def test_a_centre_crop_of_a_sliver_is_refused_instead_of_filling_the_memory():
    sliver = np.zeros((1, 5000, 3), dtype=np.uint8)
    with pytest.raises(UnreadableImageError, match=r"5000x1 is too narrow.*letterbox"):
        contract(mode="center_crop").apply(sliver)
    assert contract(mode="letterbox").apply(sliver).shape == (32, 32, 3)


def test_reads_files(image_files):
    data = image_files.encode(image_files.photo(50, 40), "PNG")
    assert np.array_equal(contract().read(data), contract().apply(image_files.photo(50, 40)))
    sixteen = image_files.encode(np.full((4, 4), 4095, dtype=np.uint16), "PNG")
    assert (contract(bit_depth=12).read(sixteen) == 255).all()


def test_normalises_by_mean_and_std():
    levels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(levels[None, :, None, None], (2, 256, 1, 3))
    normalised = contract().normalise(images)
    assert normalised.dtype == np.float32
    assert normalised.shape == images.shape
    for channel, (mean, std) in enumerate(zip(contract().mean, contract().std, strict=True)):
        assert np.allclose(normalised[0, :, 0, channel], (levels / 255 - mean) / std, atol=2e-6)


def test_the_contract_survives_json():
    for original in (contract(), contract(mode="letterbox", bit_depth=12, size=224)):
        text = json.dumps(original.to_json(), allow_nan=False)
        assert Preprocess.from_json(json.loads(text)) == original
    assert contract().to_json() == {
        "schema": 1,
        "filter": "bilinear",
        "rounding": "nearest",
        "mode": "whole",
        "size": 32,
        "crop_fraction": 0.875,
        "pad_colour": (124, 116, 104),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "bit_depth": None,
        "max_pixels": MAX_PIXELS,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"filter": "bicubic"},
        {"rounding": "floor"},
        {"mode": "stretch"},
        {"size": "32"},
        {"size": 0},
        {"crop_fraction": 0.0},
        {"pad_colour": [0, 0, 256]},
        {"pad_colour": [0, 0]},
        {"std": [0.2, 0.2, 0.0]},
        {"mean": [0.4, 0.4, None]},
        {"mean": [0.4, 0.4, float("nan")]},
        {"std": [0.2, 0.2, float("inf")]},
        {"bit_depth": 8},
        {"max_pixels": True},
        {"colour_space": "BGR"},
    ],
)
def test_a_contract_that_is_not_understood_is_refused(change):
    (key,) = change
    with pytest.raises(ValueError, match=key):
        Preprocess.from_json(json.loads(json.dumps(contract().to_json() | change)))


@pytest.mark.parametrize("key", ["schema", "filter", "mode", "max_pixels", "bit_depth"])
def test_a_contract_without_a_key_is_refused(key):
    incomplete = contract().to_json()
    del incomplete[key]
    with pytest.raises(ValueError, match=key):
        Preprocess.from_json(incomplete)


@pytest.mark.parametrize("mode", ["whole", "letterbox", "center_crop"])
def test_an_input_need_not_be_square(image_files, mode):
    wanted = contract(mode=mode, size=(24, 40))
    assert wanted.to_json()["size"] == (24, 40)
    stored = json.loads(json.dumps(wanted.to_json()))
    assert stored["size"] == [24, 40]
    assert Preprocess.from_json(stored) == wanted
    assert wanted.apply(image_files.photo(33, 21)).shape == (24, 40, 3)
    assert wanted.read(image_files.encode(image_files.photo(21, 33), "PNG")).shape == (24, 40, 3)
    for wrong in ([24], [24, 40, 3], [24, 0], [24, 40.5], "24"):
        with pytest.raises(ValueError, match="size"):
            Preprocess.from_json(stored | {"size": wrong})


def test_a_letterbox_fits_and_a_crop_covers_what_is_not_square():
    wide = np.zeros((30, 90, 3), dtype=np.uint8)
    boxed = contract(mode="letterbox", size=(40, 80), pad_colour=(9, 9, 9)).apply(wide)
    assert (boxed == 9).all(axis=(1, 2)).tolist() == [True] * 6 + [False] * 27 + [True] * 7
    assert contract(mode="center_crop", size=(40, 80), crop_fraction=1.0)._placed(90, 30) == ((120, 40), (-20, 0))

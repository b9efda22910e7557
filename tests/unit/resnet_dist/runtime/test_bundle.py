"""A bundle opens as it was exported, or says what is wrong with it."""

import json
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.runtime.bundle import MANIFEST, PREPROCESS, Bundle, read_manifest, seal
from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.preprocess import Preprocess


def rewritten(path: Path, data: bytes) -> None:
    """The copy's files are links to the original's."""
    path.unlink()
    path.write_bytes(data)


def resealed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """bundle.json changed by somebody who knows how to seal it."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["seal"]
    change(manifest)
    rewritten(folder / MANIFEST, seal(manifest))


def test_a_bundle_opens_by_its_folder_and_by_its_run(bundle_copy: Path):
    for place in (bundle_copy, bundle_copy.parent, str(bundle_copy)):
        bundle = Bundle.open(place)
        assert bundle.classes == ("bent", "good", "scratched")
        bundle.verify()


def test_a_changed_a_missing_a_shorter_and_a_longer_file_are_refused(bundle_copy: Path):
    names = list(Bundle.open(bundle_copy).files)
    assert {"onnx/model.onnx", "openvino/model.xml", "openvino/model.bin", PREPROCESS} < set(names)
    for name in names:
        path = bundle_copy / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for data, said in ((changed, "was changed"), (whole[:-1], "was changed"), (whole + b"\n", "longer than")):
            rewritten(path, data)
            with pytest.raises(BundleError, match=f"{name}.*{said}"):
                Bundle.open(bundle_copy).verify()
        path.unlink()
        with pytest.raises(BundleError, match=f"incomplete: there is no {name}"):
            Bundle.open(bundle_copy).verify()
        path.write_bytes(whole)
    Bundle.open(bundle_copy).verify()


def test_any_changed_byte_of_the_manifest_is_refused_or_means_nothing(bundle_folder: Path):
    whole = (bundle_folder / MANIFEST).read_bytes()
    original = read_manifest(whole, "here")

    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def changes(place: int, bits: int) -> None:
        changed = whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :]
        try:
            found = read_manifest(changed, "here")
        except BundleError:
            return
        assert found == original  # white space

    changes()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused(data: bytes):
    with pytest.raises(BundleError, match="here"):
        read_manifest(data, "here")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def test_a_sealed_manifest_with_any_other_value_in_it_opens_or_is_refused(bundle_folder: Path):
    manifest = json.loads((bundle_folder / MANIFEST).read_bytes())
    del manifest["seal"]

    @given(st.sampled_from(sorted(manifest)), json_values)
    def changes(key: str, value: Any) -> None:
        data = seal(manifest | {key: value})
        with suppress(BundleError):  # and nothing else
            Bundle(bundle_folder, read_manifest(data, "here"))

    changes()


def sealed_with(manifest: dict[str, Any], key: str, text: str) -> bytes:
    """A sealed bundle.json with any text as a value, also one that no encoder would write."""
    canonical = json.dumps(manifest | {key: "@"}, sort_keys=True, separators=(",", ":")).replace('"@"', text)
    return f'{canonical[:-1]},"seal":"{sha256(canonical.encode()).hexdigest()}"}}'.encode()


@pytest.mark.parametrize("depth", [100, 950, 990, 100_000])
def test_values_in_values_are_refused_however_deep_they_are(bundle_copy: Path, depth: int):
    manifest = json.loads((bundle_copy / MANIFEST).read_bytes())
    del manifest["seal"]
    nested = ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)
    for text in nested:
        for key in manifest:
            data = sealed_with(manifest, key, text)
            if key == "provenance":  # what people read may hold anything
                with suppress(BundleError):
                    Bundle(bundle_copy, read_manifest(data, "bundle.json"))
                continue
            with pytest.raises(BundleError, match=r"bundle\.json") as caught:
                Bundle(bundle_copy, read_manifest(data, "bundle.json"))
            assert len(str(caught.value)) < 1000
        rewritten(bundle_copy / PREPROCESS, text.encode())
        entry = {"sha256": sha256(text.encode()).hexdigest(), "bytes": len(text)}
        resealed(bundle_copy, lambda manifest, entry=entry: manifest["files"].update({PREPROCESS: entry}))
        with pytest.raises(BundleError, match=r"bundle/preprocess\.json cannot be used"):
            Bundle.open(bundle_copy)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"x"', "{}", '{"schema": true}', '{"schema": [[1]]}', "9" * 5000])
def test_a_preprocess_json_that_holds_something_else_is_refused(bundle_copy: Path, text: str):
    rewritten(bundle_copy / PREPROCESS, text.encode())
    entry = {"sha256": sha256(text.encode()).hexdigest(), "bytes": len(text)}
    resealed(bundle_copy, lambda manifest: manifest["files"].update({PREPROCESS: entry}))
    with pytest.raises(BundleError, match=r"bundle/preprocess\.json cannot be used") as caught:
        Bundle.open(bundle_copy)
    assert len(str(caught.value)) < 1000


def test_a_preprocess_json_with_any_value_in_it_opens_or_is_refused(bundle_folder: Path):
    contract = json.loads((bundle_folder / PREPROCESS).read_bytes())

    @given(st.sampled_from(sorted(contract)), json_values)
    def changes(key: str, value: Any) -> None:
        with suppress(ValueError):  # and nothing else, for that is what a bundle takes for a wrong one
            Preprocess.from_json(contract | {key: value})

    changes()


@pytest.mark.parametrize("size", [16_385, 2**40, [32, 10**30]])
def test_a_contract_of_images_larger_than_memory_is_refused(bundle_folder: Path, size: Any):
    contract = json.loads((bundle_folder / PREPROCESS).read_bytes())
    with pytest.raises(ValueError, match="size"):
        Preprocess.from_json(contract | {"size": size})


def test_a_wrong_operating_point_is_said_with_its_file_and_in_few_words(bundle_copy: Path):
    resealed(bundle_copy, lambda manifest: manifest.update(operating_point={"temperature": ["x" * 10**6]}))
    with pytest.raises(BundleError, match=r"bundle/bundle\.json: the operating point .* cannot be used") as caught:
        Bundle.open(bundle_copy)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("schema", "remedy"), [(2, "upgrade resnet-dist"), (0, "export the run again"), ("1", "")])
def test_another_schema_is_refused(bundle_copy: Path, schema: object, remedy: str):
    resealed(bundle_copy, lambda manifest: manifest.update(schema=schema))
    with pytest.raises(BundleError, match=f"has schema {schema!r}; this version reads 1: .*{remedy}"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize(
    "classes", [["bent", "good"], ["bent", "good", "scratched", "torn"], ["bent", "good", "good"], []]
)
def test_classes_that_are_not_one_for_each_output_are_refused(bundle_copy: Path, classes: list[str]):
    resealed(bundle_copy, lambda manifest: manifest.update(classes=classes))
    with pytest.raises(BundleError, match="export the run again"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/hostname", "", "a\\b", "a\nb", "é"])
def test_a_path_out_of_the_folder_is_refused(bundle_copy: Path, path: str):
    resealed(bundle_copy, lambda manifest: manifest["files"].update({path: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BundleError, match="lies outside"):
        Bundle.open(bundle_copy)


def test_a_format_can_name_only_files_of_the_bundle(bundle_copy: Path):
    resealed(bundle_copy, lambda manifest: manifest["formats"]["onnx"].update(files=["../other.onnx"]))
    bundle = Bundle.open(bundle_copy)
    with pytest.raises(BundleError, match=r"names no '\.\./other\.onnx'"):
        bundle.read(bundle.formats["onnx"].files[0])


def test_a_file_that_is_said_to_be_larger_than_memory_is_read_as_far_as_it_goes(bundle_copy: Path):
    for size in (2**50, 10**30):
        resealed(bundle_copy, lambda manifest, size=size: manifest["files"][PREPROCESS].update(bytes=size))
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("value", ["NaN", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(value: str):
    with pytest.raises(BundleError, match="here is no bundle"):
        read_manifest(b'{"schema": 1, "name": %s, "seal": "0"}' % value.encode(), "here")


def test_a_format_without_files_is_refused(bundle_copy: Path):
    resealed(bundle_copy, lambda manifest: manifest["formats"]["onnx"].update(files=[]))
    with pytest.raises(BundleError, match=r"cannot be used"):
        Bundle.open(bundle_copy)


def test_an_oversized_manifest_is_not_read(bundle_copy: Path):
    rewritten(bundle_copy / MANIFEST, b"")
    with (bundle_copy / MANIFEST).open("wb") as stream:
        stream.truncate(64 * 2**20 + 1)
    with pytest.raises(BundleError, match=r"longer than the 67108864 bytes"):
        Bundle.open(bundle_copy)


def test_a_threshold_of_an_unknown_class_is_refused(bundle_copy: Path):
    resealed(bundle_copy, lambda manifest: manifest["operating_point"]["thresholds"].update(torn=0.5))
    with pytest.raises(BundleError, match="operating point"):
        Bundle.open(bundle_copy)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(BundleError, match=r"is no bundle: there is no bundle\.json"):
        Bundle.open(tmp_path)


def test_a_format_that_is_not_there_is_refused_with_those_that_are(bundle_copy: Path):
    with pytest.raises(BundleError, match="has no format 'tensorrt'; it has onnx, openvino"):
        Bundle.open(bundle_copy).format("tensorrt")
    resealed(bundle_copy, lambda manifest: manifest["refused"].update(tensorrt="it was off by 9 points"))
    with pytest.raises(BundleError, match="it was refused, it was off by 9 points; it has onnx"):
        Bundle.open(bundle_copy).format("tensorrt")

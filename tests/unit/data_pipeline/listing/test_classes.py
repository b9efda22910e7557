"""Classes renamed, merged, left out and ordered, for folders and labels files alike."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.index import Dataset, index_folder
from data_pipeline.listing.scan import Readers
from resnet_dist.runtime.image_file import decode_rgb, image_header

DECODE = partial(decode_rgb, bit_depth=None, max_pixels=10**6)
HEADER = partial(image_header, max_pixels=10**6)
IMAGES = {"train/bent/1.png": "bent", "train/chipped/2.png": "chipped", "train/good/3.png": "good",
          "train/good/4.png": "good", "val/bent/5.png": "bent", "val/good/6.png": "good"}  # fmt: skip


@pytest.fixture(params=["folder", "table"])
def index(request: pytest.FixtureRequest, image_files: Any, tmp_path: Path) -> Callable[..., Dataset]:
    root = tmp_path / "data"
    for seed, name in enumerate(IMAGES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_files.encode(image_files.photo(9, 7, seed=seed), "PNG"))
    rows = [f"{path},{label},{path.partition('/')[0]}" for path, label in IMAGES.items()]
    (root / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    labels = "labels.csv" if request.param == "table" else ""

    def index_it(*, may_lack_classes: bool = False, **settings: Any) -> Dataset:
        data = DataConfig(root=str(root), labels=labels, cache_dir=str(tmp_path / "cache"), **settings)
        return index_folder(data, Readers(DECODE, HEADER), may_lack_classes=may_lack_classes)

    return index_it


def named(dataset: Dataset) -> dict[str, str]:
    samples = dataset.samples
    return {
        sample_id.rpartition("/")[2]: samples.classes[label]
        for sample_id, label in zip(samples.sample_ids, samples.labels.tolist(), strict=True)
    }


def test_classes_are_renamed_and_two_to_one_are_merged(index: Callable[..., Dataset]) -> None:
    dataset = index(rename_classes=("bent=defect", "chipped=defect", "good=fine"))
    assert dataset.samples.classes == ("defect", "fine")
    assert named(dataset) == {"1.png": "defect", "2.png": "defect", "3.png": "fine", "4.png": "fine",
                              "5.png": "defect", "6.png": "fine"}  # fmt: skip
    assert index(rename_classes=("bent=chipped",)).samples.classes == ("chipped", "good")
    assert named(index(rename_classes=("bent=good", "good=bent")))["3.png"] == "bent", "names may change places"
    assert index(rename_classes=("bent=a=b",)).samples.classes == ("a=b", "chipped", "good")


def test_ignored_classes_are_left_out_and_counted(index: Callable[..., Dataset]) -> None:
    plain, dataset = index(), index(ignore_classes=("bent",))
    assert dataset.samples.classes == ("chipped", "good")
    assert set(named(dataset)) == {"2.png", "3.png", "4.png", "6.png"}
    assert dataset.ignored == plain.ignored + 2


def test_the_order_is_that_of_the_labels(index: Callable[..., Dataset]) -> None:
    dataset = index(class_order=("good", "bent", "chipped"))
    assert dataset.samples.classes == ("good", "bent", "chipped")
    assert named(dataset) == named(index())
    assert index(rename_classes=("good=ok",), class_order=("ok", "chipped", "bent")).samples.classes[0] == "ok"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rename_classes": ("bend=x",)},
         r"data.rename_classes names 'bend', and .* no such class; did you mean 'bent'"),
        ({"rename_classes": ("zzz=x",)}, r"names 'zzz', .*; use one of 'bent', 'chipped', 'good', or leave it out"),
        ({"ignore_classes": ("goood",)}, r"data.ignore_classes names 'goood'.*did you mean 'good'"),
        ({"class_order": ("good", "bent")}, r"data.class_order lacks class 'chipped' of .*add it to the order"),
        ({"class_order": ("good", "bend", "chipped")},
         r"lacks class 'bent' of .*did you mean 'bend'(.|\n)*names class 'bend', of which .* no training images"),
        ({"ignore_classes": ("chipped",), "class_order": ("good", "bent", "chipped")}, r"names class 'chipped', "),
        ({"ignore_classes": ("chipped", "bent")}, r"one class, 'good'"),
        ({"rename_classes": ("bent=good", "chipped=good")}, r"one class, 'good'"),
    ],
)  # fmt: skip
def test_names_that_are_not_there_are_refused(index: Callable[..., Dataset], settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        index(**settings)


def test_settings_that_say_the_same_are_the_same() -> None:
    one = DataConfig(rename_classes=("b=x", "a=y"), ignore_classes=("d", "c", "d"), image_size=96, image_width=96)
    assert one == DataConfig(rename_classes=("a=y", "b=x"), ignore_classes=("c", "d"), image_size=96)
    assert one.image_width is None
    assert DataConfig(class_order=("b", "a")).class_order == ("b", "a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rename_classes": ("bent",)}, "holds 'bent'; write OLD=NEW"),
        ({"rename_classes": ("=x",)}, "holds '=x'"),
        ({"rename_classes": ("x= ",)}, "holds 'x= '"),
        ({"rename_classes": ("a=b", "a=c")}, "renames 'a' twice"),
        ({"rename_classes": ("a=b",), "ignore_classes": ("a",)}, "both name 'a'"),
        ({"class_order": ("a", "b", "a")}, "names 'a' twice"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig(**settings)


def test_the_fingerprint_changes_with_the_outcome_only(index: Callable[..., Dataset]) -> None:
    plain = index().fingerprint
    assert index(class_order=("bent", "chipped", "good")).fingerprint == plain
    assert index(rename_classes=("bent=bent",)).fingerprint == plain
    others = [
        index(class_order=("good", "chipped", "bent")).fingerprint,
        index(rename_classes=("bent=x",)).fingerprint,
        index(rename_classes=("bent=good",)).fingerprint,
        index(ignore_classes=("chipped",)).fingerprint,
    ]
    assert len({plain, *others}) == 5


def test_other_data_need_not_have_all_classes(index: Callable[..., Dataset]) -> None:
    order = ("torn", "good", "bent")
    dataset = index(
        may_lack_classes=True, rename_classes=("scratched=torn",), ignore_classes=("blurred",), class_order=order
    )
    assert dataset.samples.classes == ("good", "bent", "chipped")

"""Configuration of the data and of its augmentation. Imports neither torch, ray nor DALI.

`json_schema_extra={"identity": ...}` says whether a field belongs to a run's identity: what changes
the trained weights does, where and how they are computed does not. A class gives its fields' default.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Jitter = Annotated[float, Field(ge=0.0, le=0.9)]
ByteColour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]
PositiveTriple = tuple[
    Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]
]

_WHERE = Field(json_schema_extra={"identity": False})


class DataConfig(BaseModel):
    """Which images, how they are split, ordered and brought to the model's size."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    root: Annotated[str, _WHERE] = ""
    """The ImageFolder: a folder with train/ and val/ (test/ too, if there is one), or only class folders. A folder that
    every node sees, or a URI such as s3://bucket/folder, which each node copies to its own data.cache_dir."""
    # What the file says is part of the data's fingerprint; where it lies is not.
    labels: Annotated[str, _WHERE] = ""
    """A CSV or Parquet file of paths and labels, instead of class folders: columns path (relative to data.root), label,
    and if wanted split (train, val, test), group (images that stay in one split) and, with data.folds, fold (from 0 on,
    empty for test). Relative to data.root, or a URI."""
    rename_classes: tuple[str, ...] = ()
    """OLD=NEW for classes to be called otherwise; renamed to the name of another, a class is merged with it."""
    ignore_classes: tuple[str, ...] = ()
    """Classes, by their name in the data, whose images are left out."""
    class_order: tuple[str, ...] = ()
    """All class names, as they are called after renaming, in the order of the model's outputs; empty: sorted."""
    image_size: Annotated[int, Field(ge=16, le=2048)] = 224
    """Height of the model's input in pixels, and its width unless image_width says otherwise."""
    image_width: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Width of the model's input in pixels; unset: image_size."""
    resize: Literal["whole", "letterbox", "center_crop"] = "whole"
    """How an image is brought to the input's size for evaluation and prediction: the whole image resized; the
    whole image with its aspect ratio kept and padded; or resized until it covers the size and the centre cropped."""
    crop_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    """With resize = "center_crop": the crop's side over that of the smallest resized image that covers it."""
    pad_colour: ByteColour = (124, 116, 104)
    """RGB of the padding of a letterbox, 0..255."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean subtracted from images in 0..1 (ImageNet's by default)."""
    std: PositiveTriple = (0.229, 0.224, 0.225)
    """RGB standard deviation images in 0..1 are divided by (ImageNet's by default)."""
    val_fraction: Fraction = 0.15
    """Share of each class that goes to val when the data has no val split of its own."""
    test_fraction: Fraction = 0.15
    """Share of each class that goes to test when the data has only class folders."""
    bit_depth: Annotated[int, Field(ge=9, le=16)] | None = None
    """Significant bits of 16-bit images (12 for most industrial cameras); such images are refused without it."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Cross-validation: train so many times, each time with another part of train and val as val; unset: once. A labels
    file may say which part each image is in."""
    fold: Annotated[int, Field(ge=0, le=19)] | None = None
    """With data.folds: the one part, from 0 on, to train with; unset: all of them, one after the other."""
    on_unreadable: Literal["error", "skip"] = "error"
    """What an unreadable file does: stop before training with the list, or be counted, listed and left out."""
    leakage: Annotated[Literal["warn", "error", "ignore"], _WHERE] = "warn"
    """What copies of training images in val or test do, by the record that `data inspect` left under storage.root: be
    said, stop the training, or nothing. error also needs that record."""
    max_pixels: Annotated[int, Field(ge=1, json_schema_extra={"identity": False})] = 100_000_000
    """Images with more pixels count as unreadable: a bound against decompression bombs. A pixel of 16-bit RGB counts as
    one and a half, of 16-bit RGBA as two."""
    order: Literal["full", "blocks"] = "full"
    """How an epoch is shuffled: one permutation of all samples, or blocks of rows shuffled and then rows
    inside a window of blocks, for sets too large for a permutation."""
    block_rows: Annotated[int, Field(ge=1)] = 1024
    """With order = "blocks": rows in a block."""
    window_blocks: Annotated[int, Field(ge=1)] = 16
    """With order = "blocks": blocks whose rows are shuffled together."""
    sampling: Literal["all", "balanced"] = "all"
    """all: each sample once an epoch. balanced: as many samples an epoch, as many of each class; those of a small class
    come several times, each time in another view."""
    drop_last: bool = False
    """Leave out the last, partial global batch of each epoch."""
    source: Literal["dali", "reference", "synthetic"] = "dali"
    """Who decodes and applies the views: DALI; Pillow and numpy (slow, the definition); or random images."""
    decode_threads: Annotated[Annotated[int, Field(ge=1)] | None, _WHERE] = None
    """DALI's CPU threads per worker; unset: the worker's CPUs."""
    prefetch: Annotated[int, Field(ge=1, le=16, json_schema_extra={"identity": False})] = 2
    """Microbatches decoded ahead of training."""
    cache_dir: Annotated[str, _WHERE] = ""
    """A folder of each node where the scan of a folder is remembered between starts, and images of a URI are kept: it
    needs room for all of them. Empty: resnet-dist/ in $XDG_CACHE_HOME, else in ~/.cache."""

    @field_validator("rename_classes")
    @classmethod
    def _renames_are_pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        olds = [pair.partition("=")[0] for pair in pairs]
        for pair, old in zip(pairs, olds, strict=True):
            if not all(part.strip() for part in pair.partition("=")):
                raise ValueError(f"data.rename_classes holds {pair!r}; write OLD=NEW, both of them names")
            if olds.count(old) > 1:
                raise ValueError(f"data.rename_classes renames {old!r} twice; a class has one name, remove one of them")
        return tuple(sorted(pairs))

    # What says the same is the same, as settings and in a run's identity.
    @field_validator("ignore_classes")
    @classmethod
    def _order_says_nothing(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))

    @field_validator("image_width")
    @classmethod
    def _square_is_unset(cls, width: int | None, info: ValidationInfo) -> int | None:
        return None if width == info.data.get("image_size") else width

    @model_validator(mode="after")
    def _classes_are_named_once(self) -> "DataConfig":
        if twice := [name for name in self.class_order if self.class_order.count(name) > 1]:
            raise ValueError(f"data.class_order names {twice[0]!r} twice; each class has one place, remove one of them")
        renamed = [pair.partition("=")[0] for pair in self.rename_classes]
        if both := [name for name in renamed if name in self.ignore_classes]:
            raise ValueError(
                f"data.rename_classes and data.ignore_classes both name {both[0]!r}; a class is renamed or left out"
            )
        return self

    @model_validator(mode="after")
    def _splits_leave_training_data(self) -> "DataConfig":
        if self.val_fraction + self.test_fraction >= 1.0:
            raise ValueError(
                f"data.val_fraction={self.val_fraction} plus data.test_fraction={self.test_fraction} leaves "
                "nothing to train on; their sum must stay below 1"
            )
        return self

    @model_validator(mode="after")
    def _fold_of_folds(self) -> "DataConfig":
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            rule = "data.folds is unset" if self.folds is None else f"there are data.folds={self.folds}"
            raise ValueError(f"data.fold={self.fold}, and {rule}; it counts from 0 to data.folds - 1")
        if self.sampling == "balanced" and self.order == "blocks":
            raise ValueError('data.sampling="balanced" has an order of its own; use data.order="full" with it')
        return self

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the model's input in pixels."""
        return self.image_size, self.image_width or self.image_size


class AugmentationConfig(BaseModel):
    """How training images vary. Every view is a pure function of (seed, epoch, sample)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": True}
    )

    window: Literal["random_resized_crop", "whole", "letterbox"] = "random_resized_crop"
    """What part of an image is seen: a random window resized, the whole image resized, or letterboxed."""
    crop_area: tuple[float, float] = (0.35, 1.0)
    """Smallest and largest share of the image's area in a random window."""
    crop_ratio: tuple[float, float] = (0.75, 4.0 / 3.0)
    """Narrowest and widest aspect ratio (width over height) of a random window."""
    horizontal_flip: Probability = 0.5
    """Probability of a mirror image, left to right."""
    vertical_flip: Probability = 0.0
    """Probability of a mirror image, top to bottom."""
    quarter_turns: bool = False
    """Rotate by 0, 90, 180 or 270 degrees, each equally likely; for square inputs only."""
    brightness: Jitter = 0.0
    """Brightness factor drawn from 1 - b .. 1 + b."""
    contrast: Jitter = 0.0
    """Contrast factor around mid-grey drawn from 1 - c .. 1 + c."""
    saturation: Jitter = 0.0
    """Saturation factor drawn from 1 - s .. 1 + s."""
    erase: Probability = 0.0
    """Probability that a random box is replaced by the mean colour (random erasing, arXiv:1708.04896)."""
    erase_area: tuple[float, float] = (0.02, 0.2)
    """Smallest and largest share of the view's area in the erased box."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Narrowest and widest aspect ratio of the erased box."""

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> "AugmentationConfig":
        for name in ("crop_area", "crop_ratio", "erase_area", "erase_ratio"):
            low, high = getattr(self, name)
            least, most = (0.0, 1.0) if name.endswith("area") else (0.125, 8.0)
            if not least <= low <= high <= most or high == 0.0:
                raise ValueError(
                    f"augmentation.{name}=({low}, {high}) must be ordered within {least:g} <= low <= high <= {most:g}"
                )
        return self

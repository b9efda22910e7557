"""Which classes there are, in which order: names as the data has them, renamed, merged, left out and ordered."""

import difflib
from dataclasses import replace

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.image_folder import Listing
from data_pipeline.listing.image_names import EXTENSIONS

_NAMED = 20


def mapped(listing: Listing, data: DataConfig, *, may_lack_classes: bool = False) -> Listing:
    """The listing without `data.ignore_classes`, the other classes called as `data.rename_classes` says.

    Images left out are counted in `ignored`. Raises DataError for a name that no class of the data has, unless
    `may_lack_classes`: data to be judged need not have all classes of those that the settings were made for.
    """
    renamed = dict(pair.split("=", 1) for pair in data.rename_classes)
    ignored = set(data.ignore_classes)
    if not renamed and not ignored:
        return listing
    known = sorted({name for _, name in listing.class_folders})
    for field, names in (("rename_classes", list(renamed)), ("ignore_classes", data.ignore_classes)):
        for name in names:
            if name not in known and not may_lack_classes:
                raise DataError(
                    f"data.{field} names {name!r}, and {listing.named} has no such class; "
                    f"{_hint(name, known)}, or leave it out"
                )
    images = [image for image in listing.images if image.class_name not in ignored]
    broken = [image for image in listing.broken if image.class_name not in ignored]
    left_out = len(listing.images) + len(listing.broken) - len(images) - len(broken)
    folders = [(split, renamed.get(name, name)) for split, name in listing.class_folders if name not in ignored]
    return replace(
        listing,
        class_folders=list(dict.fromkeys(folders)),
        images=[replace(image, class_name=renamed.get(image.class_name, image.class_name)) for image in images],
        broken=[replace(image, class_name=renamed.get(image.class_name, image.class_name)) for image in broken],
        ignored=listing.ignored + left_out,
    )


def class_names(listing: Listing, order: tuple[str, ...] = (), *, may_lack_classes: bool = False) -> tuple[str, ...]:
    """The class names, those of train where there are splits: in the `order` given, else sorted.

    Raises DataError where they cannot be trained on: fewer than two, one without an image in a split that names it,
    one that train lacks, or others than those of `order`. With `may_lack_classes`, the names may be only some of
    `order`'s, and others than those follow them.
    """
    split = "train" if listing.has_splits else None
    classes = tuple(sorted({name for where, name in listing.class_folders if where == split}))
    if not classes:
        raise DataError(
            f"{listing.place(split)} holds no class folders; put the images of each class into a folder of its name"
        )
    if len(classes) == 1:
        raise DataError(
            f"{listing.place(split)} holds one class, {classes[0]!r}; a classifier needs images of at least two"
        )
    for other in ("val", "test"):
        if unknown := sorted({name for where, name in listing.class_folders if where == other} - set(classes)):
            raise DataError(
                f"{quoted(unknown)} in {listing.place(other)}, which train{'' if listing.table else '/'} lacks; "
                f"add images to train, or remove {'it' if len(unknown) == 1 else 'them'} from {other}"
            )
    filled = {(image.split, image.class_name) for image in (*listing.images, *listing.broken)}
    for each in (split, "val", "test"):
        if empty := sorted(name for where, name in set(listing.class_folders) - filled if where == each):
            kinds = ", ".join(extension.decode() for extension in EXTENSIONS)
            raise DataError(
                f"{quoted(empty)} in {listing.place(each)} without an image ({kinds}); add some, or remove the folder"
            )
    return _ordered(listing, classes, order, may_lack_classes=may_lack_classes) if order else classes


def quoted(classes: list[str]) -> str:
    """Class names for a message: the first of them where there are many."""
    shown = ", ".join(repr(name) for name in classes[:_NAMED])
    more = f" and {len(classes) - _NAMED} more" if len(classes) > _NAMED else ""
    return f"{'class' if len(classes) == 1 else 'classes'} {shown}{more}"


def _ordered(
    listing: Listing, classes: tuple[str, ...], order: tuple[str, ...], *, may_lack_classes: bool
) -> tuple[str, ...]:
    unknown = [name for name in classes if name not in order]
    absent = [name for name in order if name not in classes]
    if may_lack_classes:
        return (*(name for name in order if name in classes), *unknown)
    problems: list[str] = []
    if unknown:
        hints = "; ".join(_hint(name, list(order)) for name in unknown[:1])
        problems.append(f"data.class_order lacks {quoted(unknown)} of {listing.named}: {hints}, or add it to the order")
    if absent:
        problems.append(
            f"data.class_order names {quoted(absent)}, of which {listing.named} has no training images: "
            f"{_hint(absent[0], list(classes))}, or leave it out"
        )
    if problems:
        raise DataError("\n".join(problems))
    return order


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}" if near else f"use one of {', '.join(repr(each) for each in known[:_NAMED])}"

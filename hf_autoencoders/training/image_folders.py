# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which files of a folder are pictures, which of its folders are splits, and which are classes.

The folders below the top are splits if all of them have the name of a split, or if one is for training and one is held
out. Otherwise each is a class. So `train/` beside `bus/` and `car/` is a class of trains, and `train/`, `test/` and
`extra/` are three splits. A name is read as words: `Training`, `trainA`, `train2017` and `DIV2K_train_HR` are splits
for training, `train station` is not. Without folders, the names of the pictures (`train_01.png`, `test_01.png`) make
splits if each of them names one, and both kinds are there.

    folder/*.png                        one split without classes
    folder/CLASS/**/*.png               one split with classes
    folder/SPLIT/**/*.png               splits without classes
    folder/SPLIT/CLASS/**/*.png         splits with classes, numbered as in the split for training

A folder that is the only one in its folder (`images/`) is skipped. Hidden files are ignored. Every other picture is
used, or named in a note.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .image_columns import DataError


SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("extra", "unlabeled", "unlabelled", "unsupervised"), "extra"),
}
HELD_OUT = ("test", "validation")
WORDS_WITHOUT_MEANING = (
    "set",
    "split",
    "data",
    "dataset",
    "img",
    "imgs",
    "image",
    "images",
    "pictures",
    "photos",
    "of",
)
NO_PICTURES = ("BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF")  # formats that PIL knows but cannot decode
OTHER_PICTURES = (".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raw")
TABLES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tar": "webdataset",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of pictures, by file name, as in datasets
SHARD = re.compile(r"(-\d{5}-of-\d{5}(-[0-9a-f]+)?|[-_.]?\d+)$")


@dataclass
class FolderLayout:
    """What a folder holds.

    Attributes:
        splits: name -> its files.
        classes: name of a split -> the class of each of its pictures, or None; {}: there are no classes.
        notes: what was left out, or may surprise the user.
    """

    splits: dict[str, list[Path]]
    classes: dict[str, list[str | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


# -- names -------------------------------------------------------------------------------------------------------------


def split_of(name: str, ignored: Iterable[str] = ()) -> str | None:
    """train, test, validation or extra, if `name` means one of them and nothing else; else None.

    >>> [split_of(name) for name in ("Training", "trainA", "val2017", "train_images", "train station", "a test")]
    ['train', 'train', 'validation', 'train', None, None]
    """
    words = [word for word in _words(name) if not word.isdigit()]
    if len(words) > 1 and len(words[-1]) == 1:
        words.pop()  # the letter of trainA
    words = [word for word in words if word not in WORDS_WITHOUT_MEANING and word not in ignored]
    return SPLIT_WORDS.get(words[0]) if len(words) == 1 else None


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+", name)]


def as_splits(names: Sequence[str]) -> dict[str, str] | None:
    """name -> split, if these names together are names of splits; else None.

    >>> as_splits(["bus", "car", "train"]), as_splits(["train", "test", "more"])
    (None, {'train': 'train', 'test': 'test', 'more': 'more'})
    """
    shared = set.intersection(*(set(_words(name)) for name in names)) if len(names) > 1 else set()
    found = {name: split_of(name, shared) for name in names}
    kinds = set(found.values())
    if None not in kinds or ("train" in kinds and kinds & set(HELD_OUT)):
        return {name: kind or name for name, kind in found.items()}
    return None


def class_order(names: Iterable[str]) -> list[str]:
    """Names of classes in the order of their numbers: alphabetical, or by value if all are whole numbers.

    >>> class_order(["10", "9", "0"]), class_order(["dog", "cat"])
    (['0', '9', '10'], ['cat', 'dog'])
    """
    names = sorted(set(names))
    return sorted(names, key=int) if all(re.fullmatch(r"\d+", name, re.ASCII) for name in names) else names


# -- files -------------------------------------------------------------------------------------------------------------


def picture_suffixes() -> set[str]:
    """File endings that PIL can open here, with its plugins."""
    Image.init()
    return {
        end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in NO_PICTURES
    }


def find_files(folder: Path) -> list[Path]:
    """All files below `folder`, sorted, without hidden ones. Links are followed unless they lead to a folder above."""
    files = []
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        inside = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        folders[:] = [name for name in inside if not f"{real}/".startswith(os.path.realpath(f"{place}/{name}") + "/")]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files, key=lambda path: path.parts)


def read_layout(folder: Path) -> tuple[str, FolderLayout]:
    """What the folder holds: "pictures", or the kind of its tables (parquet, arrow, ...), and its layout.

    Raises:
        DataError: there are neither pictures nor tables.
    """
    files = find_files(folder)
    suffixes = picture_suffixes()
    pictures = [path for path in files if path.suffix.lower() in suffixes]
    tables: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in TABLES and path.name not in METADATA:
            tables.setdefault(TABLES[path.suffix.lower()], []).append(path)
    with_pictures = any(map(_holds_pictures, tables.get("parquet", ())))
    if pictures and not with_pictures:
        layout = layout_of_pictures(folder, pictures)
        layout.notes += _other_pictures(files, suffixes)
        return "pictures", layout
    kind = next((kind for kind in TABLES.values() if kind in tables), None)
    if kind is None:
        raise DataError(
            f"{folder} holds no pictures and no data files ({', '.join(TABLES)})"
            + "".join(f"; {note}" for note in _other_pictures(files, suffixes))
            + "."
        )
    layout = layout_of_tables(folder, tables[kind])
    left_out = pictures + [path for other in tables if other != kind for path in tables[other]]
    if left_out:
        layout.notes.append(f"Left out beside the {kind} files: {_listed(left_out, folder)}.")
    return kind, layout


def _holds_pictures(path: Path) -> bool:
    """Whether this parquet file may hold pictures. A broken file may: its reader will then name it."""
    import pyarrow
    import pyarrow.parquet

    try:
        types = pyarrow.parquet.read_schema(path).types
    except (pyarrow.ArrowException, OSError):
        return True
    return any(
        pyarrow.types.is_struct(kind)
        or pyarrow.types.is_binary(kind)
        or pyarrow.types.is_large_binary(kind)
        or isinstance(kind, pyarrow.ExtensionType)
        for kind in types
    )


def _other_pictures(files: list[Path], suffixes: set[str]) -> list[str]:
    kinds = Counter(path.suffix.lower() for path in files if path.suffix.lower() in set(OTHER_PICTURES) - suffixes)
    return [f"Left out: {count} {end} files, which PIL cannot read here" for end, count in sorted(kinds.items())]


def _listed(paths: Sequence[Path], folder: Path) -> str:
    first = ", ".join(str(path.relative_to(folder)) for path in paths[:3])
    return f"{len(paths)} files ({first}{', ...' if len(paths) > 3 else ''})"


# -- layouts -----------------------------------------------------------------------------------------------------------


def layout_of_pictures(folder: Path, pictures: list[Path]) -> FolderLayout:
    """The layout of a folder that holds `pictures`, every one of which is in a split or in a note."""
    top, inside = _below_single_folders(folder, pictures)
    beside = [path for path in inside if path.parent == top]
    roles = as_splits(sorted({path.relative_to(top).parts[0] for path in inside if path.parent != top}))
    layout = FolderLayout({})
    if roles:
        for path in inside:
            if path.parent != top:
                layout.splits.setdefault(roles[path.relative_to(top).parts[0]], []).append(path)
        _note_merged_splits(layout, roles)
        if beside:
            layout.notes.append(f"Left out beside the folders of the splits: {_listed(beside, folder)}.")
        tops = {split: [top / name for name in roles if roles[name] == split] for split in layout.splits}
    elif len(beside) == len(inside) and (by_name := _splits_by_file_name(inside)):
        layout.splits = by_name
        layout.notes.append(f"Split by the names of the files: {_counted(by_name)}.")
        tops = {split: [top] for split in by_name}
    else:
        layout.splits, tops = {"train": inside}, {"train": [top]}
    _find_classes(layout, tops)
    assert sum(map(len, layout.splits.values())) + (len(beside) if roles else 0) == len(pictures)
    return layout


def _below_single_folders(folder: Path, pictures: list[Path]) -> tuple[Path, list[Path]]:
    """The deepest folder that holds all pictures; it stops above a folder with the name of a split."""
    while True:
        names = {path.relative_to(folder).parts[0] for path in pictures}
        if len(names) > 1 or any(path.parent == folder for path in pictures) or as_splits(sorted(names)):
            return folder, pictures
        folder = folder / names.pop()


def _splits_by_file_name(pictures: list[Path]) -> dict[str, list[Path]] | None:
    splits: dict[str, list[Path]] = {}
    for path in pictures:
        if (split := split_of(path.stem)) is None:
            return None
        splits.setdefault(split, []).append(path)
    return splits if "train" in splits and set(HELD_OUT) & set(splits) else None


def _note_merged_splits(layout: FolderLayout, roles: dict[str, str]) -> None:
    for split in layout.splits:
        folders = sorted(name for name in roles if roles[name] == split)
        if len(folders) > 1:
            layout.notes.append(f"Split {split!r} holds the pictures of {', '.join(folders)}.")


def _counted(splits: dict[str, list]) -> str:
    return ", ".join(f"{len(files)} {split}" for split, files in splits.items())


def _find_classes(layout: FolderLayout, tops: dict[str, list[Path]]) -> None:
    """The first folder below the split's folder is the class, if the training split has at least two of them."""
    reference = "train" if "train" in layout.splits else next(iter(layout.splits))
    if len(set(_classes_below(tops[reference], layout.splits[reference], True)) - {None}) < 2:
        return
    for split, pictures in layout.splits.items():
        names = layout.classes[split] = _classes_below(tops[split], pictures, split == reference)
        without = [path for path, name in zip(pictures, names, strict=True) if name is None]
        if without:
            layout.notes.append(
                f"{len(without)} pictures of split {split!r} lie beside the class folders ({without[0].name}"
                f"{', ...' if len(without) > 1 else ''}): they have no class."
            )


def _classes_below(tops: list[Path], pictures: list[Path], is_reference: bool) -> list[str | None]:
    """The class of each picture. A single folder is no class in the reference split; in other splits it may be one."""
    classes = {}
    for top in tops:
        mine = [path for path in pictures if path.is_relative_to(top)]
        below, _ = _below_single_folders(top, mine) if mine else (top, mine)
        if not is_reference:
            passed = below.relative_to(top).parts
            named = next((n for n, name in enumerate(passed) if set(_words(name)) - set(WORDS_WITHOUT_MEANING)), None)
            below = below if named is None else top.joinpath(*passed[:named])
        classes |= {path: None if path.parent == below else path.relative_to(below).parts[0] for path in mine}
    return [classes[path] for path in pictures]


def layout_of_tables(folder: Path, files: list[Path]) -> FolderLayout:
    """Splits of table files: by their own names (`test-00000-of-00002.parquet`), else by those of their folders.

    If a file is named as a training or held-out split, every file belongs to a split; one without a split's name is a
    split of its own name. Otherwise all files are one split.
    """
    named = {path: SHARD.sub("", path.stem) for path in files}
    prefixes = sorted({name for name in named.values() if name})
    shared = set.intersection(*(set(_words(name)) for name in prefixes)) if len(prefixes) > 1 else set()

    def split(path: Path) -> str | None:
        parents = path.relative_to(folder).parts[-2::-1]
        return next((kind for name in (named[path], *parents) if (kind := split_of(name, shared))), None)

    found = {path: split(path) for path in files}
    layout = FolderLayout({})
    for path in files:
        if set(found.values()) & {"train", *HELD_OUT}:
            name = found[path] or named[path] or path.parent.name
        elif "-of-" in path.stem and len(prefixes) == 1:
            name = named[path]
        else:
            name = "train"
        layout.splits.setdefault(name, []).append(path)
    return layout


def picture_table(layout: FolderLayout, split: str, folder: Path) -> Any:
    """The pictures of a split as a `datasets.Dataset` of an encoded column `image`, their classes as `label`,
    and the columns of `metadata.csv`, `.jsonl` or `.parquet`."""
    from datasets import ClassLabel, Features, Value
    from datasets import Dataset as Table
    from datasets import Image as ImageFeature

    paths = layout.splits[split]
    features, columns = {"image": ImageFeature()}, {"image": [str(path) for path in paths]}
    if layout.classes:
        reference = layout.classes.get("train") or next(iter(layout.classes.values()))
        known = class_order(name for name in reference if name is not None)
        names = known + class_order(set(layout.classes[split]) - set(known) - {None})
        features["label"] = ClassLabel(names=names)
        columns["label"] = [None if name is None else names.index(name) for name in layout.classes[split]]
    for name, values in read_metadata(folder, paths).items():
        kinds = {type(value) for value in values if value is not None}
        kind = {int: "int64", float: "float64", bool: "bool"}.get(kinds.pop()) if len(kinds) == 1 else None
        features[name] = Value(kind or "string")
        columns[name] = values if kind else [None if value is None else str(value) for value in values]
    return Table.from_dict(columns, features=Features(features))


def read_metadata(folder: Path, pictures: list[Path]) -> dict[str, list[Any]]:
    """Column -> value of each picture (or None), from the metadata files in and above the folders of the pictures."""
    import pandas

    places = {parent for path in pictures for parent in path.parents if parent.is_relative_to(folder)}
    known: dict[Path, dict[str, Any]] = {}
    for file in (place / name for place in sorted(places) for name in METADATA if (place / name).is_file()):
        read = {".csv": pandas.read_csv, ".parquet": pandas.read_parquet}.get(
            file.suffix, lambda path: pandas.read_json(path, lines=True)
        )
        rows = read(file)
        if "file_name" not in rows:
            raise DataError(f"{file} has no column file_name; its columns: {', '.join(map(str, rows))}.")
        rows = rows.astype(object).where(rows.notna(), None)
        for row in rows.to_dict("records"):
            known[file.parent / str(row.pop("file_name"))] = row
    columns = dict.fromkeys(name for row in known.values() for name in row)
    return {str(name): [known.get(path, {}).get(name) for path in pictures] for name in columns if name != "image"}

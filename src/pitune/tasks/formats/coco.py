"""COCO JSON: images with categories, one or several, or with captions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pitune.errors import InputError, first_problem
from pitune.tasks.formats.parsing import json_value
from pitune.tasks.formats.reading import (
    SEVERAL_METRIC,
    Format,
    Found,
    Options,
    Reading,
    by_id,
    by_rarest,
    distinct_classes,
    inside,
    is_file,
    shared_names,
    split_named,
)
from pitune.tasks.formats.unpack import unpacked
from pitune.tasks.task import Example, Split

_FOLDERS = (".", "images", "train2014", "val2014", "train2017", "val2017")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Image(_Entry):
    id: int | str
    file_name: str
    zip_file: str = ""


class _Annotation(_Entry):
    image_id: int | str
    category_id: int | str | None = None
    caption: str | None = None


class _Category(_Entry):
    id: int | str
    name: str


class _File(_Entry):
    images: tuple[_Image, ...]
    annotations: tuple[_Annotation, ...] = Field(min_length=1)
    categories: tuple[_Category, ...] = ()


def recognises(path: Path) -> bool:
    """Return whether it is a JSON file, or a folder with one that begins with a part, as in `val_2017.json`."""
    if path.is_dir():
        return bool(_parts(path))
    return path.suffix.lower() == ".json" and path.is_file()


def read(path: Path, options: Options) -> Reading:
    """Read one file, or a folder's `train….json`, `val….json` and `test….json`; raises `InputError` if malformed."""
    parts = _parts(path) if path.is_dir() else [(path, None)]
    files = [(file, split, _load(file)) for file, split in parts]
    captions = any(annotation.caption is not None for _, _, one in files for annotation in one.annotations)
    categories = by_id(path, ((category.id, category.name) for _, _, one in files for category in one.categories))
    classes = distinct_classes(categories)
    names = tuple(classes.values())
    several = any(found > 1 for _, _, one in files for found in _labels_per_image(one).values())
    items = (found for file, split, one in files for found in _items(file, split, one, classes, several))
    if captions:
        return Reading(path, path.stem, items, balanced=False, listed=False, metric="cider")
    return Reading(
        path,
        path.stem,
        by_rarest(items) if several else items,
        names,
        balanced=not several,
        several=several,
        metric=SEVERAL_METRIC if several else "accuracy",
        remarks=shared_names(path, categories),
    )


def _parts(path: Path) -> list[tuple[Path, Split | None]]:
    named = [(file, split_named(file.stem.split("_")[0])) for file in sorted(path.glob("*.json"))]
    return [(file, split) for file, split in named if split is not None]


def _load(file: Path) -> _File:
    try:
        return _File.model_validate(json_value(file.read_bytes()))
    except ValidationError as error:
        raise InputError(f"{file}: not COCO JSON, at {first_problem(error)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error})") from error


def _labels_per_image(found: _File) -> dict[Any, int]:
    labels: dict[Any, set[Any]] = defaultdict(set)
    for annotation in found.annotations:
        labels[annotation.image_id].add(annotation.category_id)
    return {image: len(some) for image, some in labels.items()}


def _items(
    file: Path, split: Split | None, found: _File, names: Mapping[int | str, str], several: bool
) -> Iterator[Found]:
    """Yield the images with their answers in the order of text, so that the annotations' own does not matter.

    Where images may have several labels, one without any is no mistake, and is left out.
    """
    right: dict[int | str, list[str]] = defaultdict(list)
    known = {image.id for image in found.images}
    twice = {image for image, number in Counter(image.id for image in found.images).items() if number > 1}
    for number, annotation in enumerate(found.annotations, 1):
        where = f"{file}, annotation {number}"
        answer = (
            annotation.caption
            if annotation.caption is not None
            else names.get(annotation.category_id if annotation.category_id is not None else "")
        )
        if annotation.image_id not in known:
            yield Found(where, split=split, problem=f"{where}: no image has the id {annotation.image_id!r}")
        elif not answer or not answer.strip():
            yield Found(where, split=split, problem=f"{where}: no category has the id {annotation.category_id!r}")
        elif answer not in right[annotation.image_id]:
            right[annotation.image_id].append(answer.strip())
    for image in found.images:
        answers = sorted(right.get(image.id, ()))
        where = f"{file}, image {image.id}"
        if image.id in twice:
            yield Found(where, split=split, problem=f"{where}: two images have this id; expected one for each")
            continue
        if not answers and several:
            yield Found(where, split=split)
            continue
        if not answers:
            yield Found(
                where, split=split, problem=f"{where}: {image.file_name!r} has no annotation; remove it or add one"
            )
            continue
        try:
            references = tuple(answers) if len(answers) > 1 else ()
            place = _image(file.parent, image)
            yield Found(
                where, Example(f"{file.stem}/{image.id}", answers[0], image=place, references=references), split
            )
        except InputError as error:
            yield Found(where, split=split, problem=f"{where}: image {error}")


def _image(folder: Path, image: _Image) -> Path:
    if image.zip_file:
        return inside(unpacked(inside(folder, image.zip_file)), image.file_name)
    place = inside(folder, image.file_name)
    near = (inside(folder, f"{one}/{image.file_name}") for one in _FOLDERS)
    return next((one for one in near if is_file(one)), place)


FORMAT = Format("coco", "COCO JSON", recognises, read)

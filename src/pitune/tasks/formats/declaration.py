"""A task declared in YAML: where its data is, and how to ask for and score its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pitune.errors import InputError, first_problem
from pitune.registry import unknown
from pitune.tasks.formats.labelled import build_task
from pitune.tasks.formats.parsing import json_value, regular_file, yaml_value
from pitune.tasks.formats.reading import SEVERAL_METRIC, Found, Options, Reading, with_one_gap
from pitune.tasks.formats.registry import read_source
from pitune.tasks.learning import capped, weighted
from pitune.tasks.metrics import METRICS
from pitune.tasks.task import Split, Task

SUFFIXES = (".yaml", ".yml")


Template = Annotated[str, AfterValidator(with_one_gap)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Label = Annotated[str, Field(coerce_numbers_to_str=True)]
_NAMES: TypeAdapter[tuple[str, ...] | dict[str, str]] = TypeAdapter(tuple[Label, ...] | dict[Label, Label])


class Declaration(BaseModel):
    """What a YAML file may say of a task; every field may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        default=None, min_length=1, max_length=100, description="what the task is called; as the data, if not given"
    )
    about: str = Field(default="", description="what is asked, for people")
    kind: Literal["classification", "multi-label", "answer", "caption", "grounding", "retrieval"] = Field(
        default="classification", description="what sort of answer there is"
    )
    source: str | dict[Split, str] | None = Field(
        default=None, description="path of the data, beside this file; or one for each part: train, validation, test"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="of a table by role: text, image, label, answer, candidates, references, split",
    )
    template: Template = Field(
        default="{}", description="what an example's text is put into; where images have none, what their answers are"
    )
    answer_template: Template = Field(default="{}", description="what an answer is put into to be matched")
    templates: tuple[Template, ...] = Field(default=(), description="several in place of answer_template, an ensemble")
    classes: tuple[Label, ...] | dict[Label, Label] | str | None = Field(
        default=None, description="names of the classes in order, or a name for each label, or a file with either"
    )
    unlabelled: tuple[Label, ...] = Field(default=(), description="labels that mean none; their entries are left out")
    label_separator: str | None = Field(
        default=None, min_length=1, description="between several labels in one cell, such as ;"
    )
    cap: Count | None = Field(default=None, ge=1, description="learn from at most so many examples of a class")
    weights: Literal["balanced"] | dict[Label, float] = Field(
        default_factory=dict,
        description="of classes in the loss, such as {rare: 3}; or balanced, by how rare they are",
    )
    metric: str = Field(default="accuracy", description="how answers are scored")
    expected_classes: Count | None = Field(default=None, ge=1, description="refuse any other number of classes")
    expected_examples: dict[Split, Count] = Field(
        default_factory=dict, description="refuse any other number of examples in a part"
    )
    licence: str = Field(default="unknown", description="licence of the data")
    provenance: str = Field(default="", description="where the data comes from")

    @property
    def answer_templates(self) -> tuple[str, ...]:
        """The templates of answers, none where it says nothing of them."""
        return self.templates or ((self.answer_template,) if "answer_template" in self.model_fields_set else ())

    @model_validator(mode="after")
    def _said_once(self) -> Declaration:
        if {"templates", "answer_template"} <= self.model_fields_set:
            raise ValueError("answer_template and templates say the same; leave one out")
        return self

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        return METRICS.get(metric).name


def recognises(path: Path) -> bool:
    """Return whether the name ends in `.yaml` or `.yml`; the file is not opened, and need not exist."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_declaration(path: Path) -> Declaration:
    """Read and check a YAML file; raise `InputError` naming the file and the field that is wrong."""
    data = yaml_value(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}; expected `field: value` lines that declare a task")
    if strange := sorted(set(map(str, data)) - Declaration.model_fields.keys()):
        raise InputError(f"{path}: {unknown('field', strange[0], Declaration.model_fields, all_of=True)}")
    try:
        return Declaration.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    except (TypeError, RecursionError) as error:
        raise InputError(f"{path}: not fields with plain names; expected `field: value` lines") from error


def declared_reading(declared: Declaration, folder: Path, options: Options) -> Reading:
    """Read a declared task's data; relative paths start from `folder`."""
    if not declared.source:
        raise InputError(f"task {declared.name!r}: declares no source; add `source: PATH` to it")
    names, listed = _class_names(declared, folder)
    options = replace(
        options,
        columns={**declared.columns, **options.columns},
        named=frozenset((*names, *declared.unlabelled)),
        label_separator=declared.label_separator,
    )
    if isinstance(declared.source, str):
        reading = read_source(folder, declared.source, options)
    else:
        parts = {split: read_source(folder, place, options) for split, place in declared.source.items()}
        reading = _as_one(parts, folder)
    answers = tuple(
        dict.fromkeys(names.get(one, one) for one in reading.answers or () if one not in declared.unlabelled)
    )
    metric = declared.metric if "metric" in declared.model_fields_set else reading.metric
    if declared.kind == "multi-label" and "metric" not in declared.model_fields_set and not reading.several:
        metric = SEVERAL_METRIC
    return replace(
        reading,
        name=declared.name or reading.name,
        items=_named(reading, names, listed, declared.unlabelled, options),
        answers=listed or tuple(dict.fromkeys(names.values())) or answers or None,
        balanced=reading.balanced and declared.kind == "classification",
        listed=reading.listed and declared.kind != "caption",
        several=reading.several or declared.kind == "multi-label",
        metric=metric,
        provenance=declared.provenance or str(reading.path),
        template=declared.template,
        templates=declared.answer_templates or reading.templates,
    )


def _as_one(parts: Mapping[Split, Reading], folder: Path) -> Reading:
    """Return the sources of several parts as one; ids say which part they are of, since two may hold equal names."""
    every = tuple(parts.values())
    first = every[0]
    answers = tuple(dict.fromkeys(answer for one in every for answer in one.answers or ()))
    return replace(
        first,
        path=first.path if folder == Path() else folder,
        items=(_of_part(found, split) for split, one in parts.items() for found in one.items),
        answers=answers if all(one.answers for one in every) else None,
        balanced=all(one.balanced for one in every),
        several=any(one.several for one in every),
        metric=next((one.metric for one in every if one.several), first.metric),
        remarks=tuple(dict.fromkeys(remark for one in every for remark in one.remarks)),
    )


def _of_part(found: Found, split: Split) -> Found:
    if found.split not in (None, split):
        problem = f"{found.where}: is of the {found.split} part, but its source is given as {split}; give one of both"
        return Found(found.where, split=split, problem=problem)
    if found.example is None or not found.example.id or found.example.id.startswith(f"{split}/"):
        return replace(found, split=split)
    return replace(found, split=split, example=replace(found.example, id=f"{split}/{found.example.id}"))


def _class_names(declared: Declaration, folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the names of labels, or all names in order, as declared or as a file holds them."""
    classes, where = declared.classes, f"task {declared.name!r}" if declared.name else "classes"
    if isinstance(classes, str):
        where = str(folder / classes)
        classes = read_names(folder / classes)
    if isinstance(classes, dict):
        return classes, ()
    twice = next((one for one, number in Counter(classes or ()).items() if number > 1), None)
    if twice is not None:
        raise InputError(f"{where}: the class {twice!r} is listed twice; expected one line for each class")
    return {}, tuple(classes or ())


def read_names(path: Path) -> tuple[str, ...] | dict[str, str]:
    """Return the names of classes that a file holds: a line each in the order of their numbers, or JSON or YAML.

    These hold a list, or a mapping from label to name. Raise `InputError` if it is none of that, or a line is empty.
    """
    suffix = regular_file(path).suffix.lower()
    try:
        if suffix not in (".json", *SUFFIXES):
            lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
            if "" in map(str.strip, lines):
                raise InputError(f"{path}, line {[*map(str.strip, lines)].index('') + 1}: empty; expected a class name")
            return tuple(line.strip() for line in lines)
        found = json_value(path.read_bytes()) if suffix == ".json" else yaml_value(path)
        return _NAMES.validate_python(found)
    except ValidationError as error:
        raise InputError(f"{path}: not names of classes; expected a list, or a mapping from label to name") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error}); expected names of classes, one a line") from error


def _named(
    reading: Reading, names: Mapping[str, str], listed: tuple[str, ...], unlabelled: tuple[str, ...], options: Options
) -> Iterator[Found]:
    """Yield the entries under the names of their labels, and without label those whose label means that there is none.

    Listed names are also known by their number, from 0, unless one of them is a number itself.
    """
    numbered = {} if any(one.isdecimal() for one in listed) else {str(i): one for i, one in enumerate(listed)}
    known, met = {*listed, *names.values()}, set[str]()
    for found in reading.items:
        example = found.example
        if example is None:
            yield found
            continue
        met |= {answer for answer in example.right if answer in unlabelled}
        labels = {answer: names.get(answer, numbered.get(answer, answer)) for answer in example.right}
        right = [labels[answer] for answer in example.right if answer not in unlabelled]
        strange = [answer for answer in right if known and answer not in known]
        if strange:
            problem = f"{found.where}: {strange[0]!r} is not among the declared classes; correct it or add it there"
            yield replace(found, example=None, problem=problem)
        elif not right:
            yield replace(found, example=None)
        else:
            target = labels[example.target] if example.target not in unlabelled else right[0]
            references = tuple(right) if example.references else ()
            yield replace(found, example=replace(example, target=target, references=references))
    for label in unlabelled:
        if label not in met:
            options.tell(f"{reading.path}: no entry is labelled {label!r}, which was said to mean no label")


def declared_task(declared: Declaration, folder: Path, options: Options) -> Task:
    """Return a declared task; raise `InputError` if its data does not hold what the declaration expects."""
    task = build_task(declared_reading(declared, folder, options), options)
    check_counts(declared, task)
    task = capped(task, declared.cap) if declared.cap else task
    task = weighted(task, declared.weights) if declared.weights else task
    return replace(task, licence=declared.licence)


def check_counts(declared: Declaration, task: Task) -> None:
    """Raise `InputError` if a task has another number of classes, or of examples, than was declared."""
    found: dict[str, Any] = {"classes": len(task.answers or ()) or None}
    expected: dict[str, Any] = {"classes": declared.expected_classes}
    expected |= {f"{split} examples": number for split, number in declared.expected_examples.items()}
    found |= {f"{split} examples": len(examples) for split, examples in task.splits.items()}
    for what, number in expected.items():
        if number is not None and found.get(what) != number:
            raise InputError(
                f"task {task.name!r}: found {found.get(what) or 'no'} {what}, expected {number}; "
                "the data is incomplete or of another version"
            )

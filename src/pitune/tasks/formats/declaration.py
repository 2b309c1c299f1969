"""A task declared in YAML: where its data is, and how to ask for and score its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from pitune.errors import InputError, first_problem
from pitune.tasks.formats.labelled import build_task
from pitune.tasks.formats.parsing import yaml_value
from pitune.tasks.formats.reading import Found, Options, Reading
from pitune.tasks.formats.registry import read_path
from pitune.tasks.metrics import METRICS
from pitune.tasks.task import Split, Task

SUFFIXES = (".yaml", ".yml")


def _with_one_gap(template: str) -> str:
    if template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
        raise ValueError("expected exactly one {} and no other braces")
    return template


Template = Annotated[str, AfterValidator(_with_one_gap)]


class Declaration(BaseModel):
    """What a YAML file may say of a task; every field but the name may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    about: str = ""
    kind: Literal["classification", "multi-label", "answer", "caption", "grounding", "retrieval"] = "classification"
    source: str | dict[Split, str] | None = Field(default=None, description="path of the data, or one for each part")
    columns: dict[str, str] = Field(default_factory=dict, description="a table's columns by role")
    template: Template = Field(default="{}", description="from an example's text to the input text")
    answer_template: Template = Field(default="{}", description="from an answer to the text it is matched as")
    classes: tuple[str, ...] | dict[str, str] | None = Field(
        default=None, description="the answers in order, or the name of each label of the data"
    )
    unlabelled: tuple[str, ...] = Field(default=(), description="labels that mean none; their entries are left out")
    metric: str = "accuracy"
    expected_classes: int | None = Field(default=None, ge=1)
    expected_examples: dict[Split, int] = Field(default_factory=dict)
    licence: str = "unknown"
    provenance: str = ""

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        return METRICS.get(metric).name


def recognises(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_declaration(path: Path) -> Declaration:
    """Read and check a YAML file; raise `InputError` naming the file and the field that is wrong."""
    data = yaml_value(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}; expected `field: value` lines that declare a task")
    try:
        return Declaration.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    except (TypeError, RecursionError) as error:
        raise InputError(f"{path}: not fields with plain names; expected `field: value` lines") from error


def declared_reading(declared: Declaration, folder: Path, options: Options) -> Reading:
    """Read a declared task's data; relative paths start from `folder`."""
    if declared.source is None:
        raise InputError(f"task {declared.name!r}: declares no source; add `source: PATH` to it")
    columns = {**declared.columns, **options.columns}
    named = declared.classes if isinstance(declared.classes, dict) else ()
    unlabelled = (*options.unlabelled, *declared.unlabelled)
    options = replace(options, columns=columns, named=frozenset(named), unlabelled=unlabelled)
    if isinstance(declared.source, str):
        reading = read_path(folder / declared.source, options)
    else:
        readings = {split: read_path(folder / place, options) for split, place in declared.source.items()}
        reading = next(iter(readings.values()))
        items = (replace(found, split=split) for split, one in readings.items() for found in one.items)
        reading = replace(reading, path=folder, items=items)
    names = declared.classes if isinstance(declared.classes, dict) else {}
    listed = tuple(declared.classes) if isinstance(declared.classes, tuple) else None
    answers = tuple(dict.fromkeys(names.get(one, one) for one in reading.answers)) if reading.answers else None
    return replace(
        reading,
        name=declared.name,
        items=_named(reading, names, listed),
        answers=listed or (tuple(dict.fromkeys(names.values())) if names else answers),
        balanced=reading.balanced and declared.kind == "classification",
        listed=reading.listed and declared.kind != "caption",
        metric=declared.metric if "metric" in declared.model_fields_set else reading.metric,
        provenance=declared.provenance or str(reading.path),
    )


def _named(reading: Reading, names: Mapping[str, str], listed: tuple[str, ...] | None) -> Iterator[Found]:
    """Yield the entries under the names that the declaration gives to their labels."""
    for found in reading.items:
        example = found.example
        if example is None or not (names or listed):
            yield found
            continue
        right = [names.get(answer, answer) for answer in example.right]
        unknown = [answer for answer in right if answer not in (listed or names.values())]
        if unknown:
            problem = f"{found.where}: {unknown[0]!r} is not among the declared classes; correct it or add it there"
            yield replace(found, example=None, problem=problem)
        else:
            references = tuple(right) if example.references else ()
            target = names.get(example.target, example.target)
            yield replace(found, example=replace(example, target=target, references=references))


def declared_task(declared: Declaration, folder: Path, options: Options) -> Task:
    """Return a declared task; raise `InputError` if its data does not hold what the declaration expects."""
    task = build_task(declared_reading(declared, folder, options), options)
    check_counts(declared, task)
    told = "answer_template" in declared.model_fields_set
    answer_template = declared.answer_template if told else task.answer_template
    return replace(task, template=declared.template, answer_template=answer_template, licence=declared.licence)


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

"""Whatever a file is called, its task's expert has a valid name; rare classes give what they have when asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pitune.commands.set_up import read_columns
from pitune.errors import InputError
from pitune.tasks import Example, Task, few_shot, load_task, stem_of


@pytest.mark.parametrize(
    ("name", "stem"),
    [("digits", "digits"), ("my set", "my-set"), ("reviews (1)", "reviews-1"), ("Café", "cafe"), ("(!)", None),
     ("отзывы", None), ("ein sehr " + "langer " * 20, None), ("a" * 44, "a" * 44)],
)  # fmt: skip
def test_every_name_makes_a_valid_stem(name: str, stem: str | None) -> None:
    found = stem_of(name)
    assert stem is None or found == stem
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,47}", found)
    assert stem is not None or found != stem_of(name + "x")


def test_a_file_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "отзывы (1).csv"
    path.write_text("text,label\n" + "\n".join(f"text {i},{'ab'[i % 2]}" for i in range(12)), encoding="utf-8")
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", few_shot(load_task(path), 2).expert_name("lora"))


def test_a_rare_class_gives_what_it_has_when_asked() -> None:
    examples = tuple(
        Example(f"{name}{i}", name, text=f"{name} {i}") for name, n in (("a", 9), ("b", 2)) for i in range(n)
    )
    task = Task("rare", {"train": examples, "validation": examples}, ("a", "b"))
    with pytest.raises(InputError, match="class 'b' has 2 train example"):
        few_shot(task, 4)
    draw = few_shot(task, 4, at_most=True)
    assert (draw.short, len(draw.train)) == (("b",), 6)
    assert few_shot(task, 2).short == ()
    assert few_shot(task, 2) == few_shot(task, 2, at_most=True)


def test_a_role_is_given_once() -> None:
    with pytest.raises(InputError, match="--column text=a,b"):
        read_columns(["text=a", "text=b"])

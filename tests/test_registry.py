"""One registry: lazy, closed to a second owner of a name, open to packages and programs, and the same in workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.registry import Registry, given_everywhere, register_again, registries, unknown

Install = Callable[[str, str, str], None]
GROUP = "pitune.tests"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts a package with one module and its entry points on the path, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(name: str, points: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n", encoding="utf-8")

    return add


def make(group: str = GROUP, **known: str) -> Registry[object]:
    return Registry("thing", group=group, known=known)


def test_its_own_are_imported_when_they_are_asked_for() -> None:
    module = "this"  # prints when it is imported, so nothing else has done so
    sys.modules.pop(module, None)
    things = make(zen=f"{module}:s", path="os:path")
    assert things.names() == ("zen", "path")
    assert module not in sys.modules
    assert isinstance(things.get("zen"), str)
    assert things.all() == (things.get("zen"), things.get("path"))
    assert things.package("zen") == ""


def test_an_unknown_name_is_told_what_is_near() -> None:
    things = make(accuracy="os:path", cider="os:sep")
    with pytest.raises(InputError, match="unknown thing 'acuracy'; did you mean accuracy"):
        things.get("acuracy")
    with pytest.raises(InputError, match="unknown thing 'x'; expected one of: accuracy, cider"):
        things.get("x")
    assert str(unknown("thing", "x", ["y"], why="no file")) == "unknown thing 'x' (no file); expected one of: y"


def test_a_program_adds_its_own_and_takes_it_back_but_replaces_none() -> None:
    things, value = make(path="os:path"), object()
    things.register("mine", value)
    things.register("mine", value)  # again the same is no harm
    assert things.get("mine") is value
    assert things.names() == ("path", "mine")
    for name in ("mine", "path"):
        with pytest.raises(InputError, match=f"a thing named '{name}' is registered already"):
            things.register(name, object())
    things.forget("mine")
    assert things.names() == ("path",)
    with pytest.raises(InputError, match="unknown thing 'mine'"):
        things.get("mine")


def test_an_installed_package_adds_by_its_entry_points(install: Install) -> None:
    install("stranger", "theirs = stranger:THING\npath = stranger:THING", "THING = 'a thing'")
    things = make(path="os:path")
    assert things.names() == ("path", "theirs")
    assert "stranger" not in sys.modules
    assert things.get("theirs") == "a thing"
    assert things.package("theirs") == "stranger"
    assert things.get("path") != "a thing"  # a name of this package is never replaced
    with pytest.raises(InputError, match="'theirs' is registered already"):
        things.register("theirs", "another thing")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two"),
        ("", "AttributeError: module 'broken.*' has no attribute 'THING'"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(install: Install, code: str, why: str) -> None:
    name = f"broken{abs(hash(code))}"
    install(name, f"theirs = {name}:THING", code)
    with pytest.raises(InputError, match=f"thing 'theirs' of the package {name} cannot be imported .{why}") as caught:
        make().get("theirs")
    assert "\n" not in str(caught.value)


def test_what_a_program_registered_is_registered_again_elsewhere() -> None:
    group = f"{GROUP}.again"
    things = make(group)
    things.register("mine", "value")
    given = given_everywhere()
    assert given[group] == {"mine": "value"}
    things.forget("mine")
    register_again(given)
    register_again(given)
    assert things.get("mine") == "value"
    assert things in registries()
    del things
    assert group not in given_everywhere()
    register_again(given)  # before the module with the registry is imported, as in a worker that has just begun
    assert make(group).get("mine") == "value"
    assert make(group).names() == ()


def test_what_cannot_be_sent_to_workers_is_said_before_they_start() -> None:
    things = make()
    things.register("mine", lambda: None)
    with pytest.raises(InputError, match=r"cannot be sent to worker processes .*define it at the top of a module"):
        given_everywhere()

"""New inputs out of what people have: texts, images, folders and zips of images, tables, text files, standard input."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.asking import Reads, checked, reads_of, stand_in
from pitune.tasks.formats import zipped
from pitune.tasks.formats.columns import find_inputs
from pitune.tasks.formats.parsing import regular_file
from pitune.tasks.formats.reading import IMAGE_SUFFIXES, Options, Tell, is_ignored
from pitune.tasks.formats.rows import SUFFIXES, columns_of, rows_of
from pitune.tasks.formats.table import as_input
from pitune.tasks.task import Example, Task

_STANDARD_INPUT = "-"
_LINES = (".txt",)
_LARGEST = 1 << 28  # bytes of lines


@dataclass(frozen=True)
class Reader:
    """How words become inputs of a task.

    `reads` says what the task reads if it has no examples; `question` is asked of every image that has no text of its
    own; `columns` are a table's by role; `standard_input` gives as many of the bytes that `-` stands for;
    `tell` hears what was guessed.
    """

    task: Task
    reads: Reads | None = None
    question: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    standard_input: Callable[[int], bytes] = bytes
    tell: Tell = lambda _: None

    def read(self, words: Sequence[str]) -> list[Example]:
        """Return the inputs that words name, each with an id: a path, a table's `id` or row, a line, or the text.

        A word is `-`, one text a line of standard input; a file or folder that exists; a pattern that files match; or
        a text, where the task reads texts. Raise `InputError` naming the input that is none of these, or is not of
        what the task reads; what names a file or a folder is never answered as a text.
        """
        try:
            found = [example for word in words for example in self._word(word)]
        except OSError as error:
            raise InputError(f"{error.filename or ', '.join(words)}: cannot be read ({error.strerror})") from error
        if not found:
            raise InputError(f"{', '.join(words)}: found no inputs, expected one or more")
        return found

    @property
    def _reads(self) -> Reads | None:
        return reads_of(self.task) or self.reads

    def _word(self, word: str) -> Iterator[Example]:
        if word == _STANDARD_INPUT:
            yield from self._lines("standard input", self.standard_input(_LARGEST + 1))
        elif _exists(word):
            yield from self._path(Path(word))
        elif matches := _matches(word):
            self.tell(f"{word}: {len(matches)} files or folders")
            seen = set()
            for example in (one for match in matches for one in self._path(Path(match))):
                if example.id not in seen:
                    seen.add(example.id)
                    yield example
        else:
            yield self._text(word)

    def _path(self, path: Path) -> Iterator[Example]:
        suffix = regular_file(path).suffix.lower()
        if zipped.recognises(path):
            yield from self._path(zipped.content(path))
        elif path.is_dir():
            images = list(_images(path))
            if not images:
                raise InputError(
                    f"{path}: a folder without images; expected images in it ({', '.join(IMAGE_SUFFIXES)})"
                )
            for image in images:
                yield self._image(image)
        elif suffix in SUFFIXES:
            yield from self._rows(path)
        elif suffix in _LINES:
            with path.open("rb") as file:
                yield from self._lines(str(path), file.read(_LARGEST + 1))
        elif suffix in IMAGE_SUFFIXES or "image" in (self._reads or ()):
            yield self._image(path)
        else:
            expected = (
                f"an image, a table ({', '.join(SUFFIXES)}), a text file ({_LINES[0]}), or a text that names no file"
            )
            raise InputError(f"{path}: a file that is none of what can be read; expected {expected}")

    def _rows(self, path: Path) -> Iterator[Example]:
        names, reads = columns_of(path), self._reads
        columns = find_inputs(path, names, Options(columns=self.columns, tell=self.tell))
        if reads is not None:  # what was only guessed, and the task does not read, is not an input
            columns = replace(
                columns,
                text=columns.text if "text" in reads or "text" in self.columns else (),
                image=columns.image if "image" in reads or "image" in self.columns else None,
            )
        if not (columns.text or columns.image):
            wanted = " and ".join(sorted(reads or ("text", "image")))
            found = f"{path}: found columns {', '.join(names) or 'none'}"
            raise InputError(f"{found}; expected {wanted}; name them as in --column text=NAME")
        named = next(
            (name for name in names if name.lower() == "id" and name not in (*columns.text, columns.image)), None
        )
        for number, row in rows_of(path):
            where = f"{path}, row {number}"
            example = as_input(where, row, columns, path.parent)
            own = row.get(named) if named else None
            yield self._checked(where, example, str(own) if isinstance(own, str | int) and str(own).strip() else where)

    def _lines(self, name: str, data: bytes) -> Iterator[Example]:
        if len(data) > _LARGEST:
            raise InputError(f"{name}: more than {_LARGEST >> 20} MB; answer it in parts, or as a table")
        try:
            lines = data.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: not UTF-8 (byte {error.start}); expected one text a line") from error
        images = "image" in (self._reads or ())
        for number, line in enumerate(lines, 1):
            text, where = line.strip(), f"{name}, line {number}"
            if text and images:
                yield self._checked(where, Example("", "", image=Path(text)), text)
            elif text:
                yield self._checked(where, Example("", "", text), where)

    def _image(self, path: Path) -> Example:
        return self._checked(str(path), Example("", "", image=path), str(path))

    def _text(self, word: str) -> Example:
        suffix = Path(word).suffix.lower()
        spelled = not any(one.isspace() for one in word) and (suffix in (*SUFFIXES, ".zip") or word.endswith("/"))
        if suffix in IMAGE_SUFFIXES:
            return self._image(Path(word))
        if spelled or "image" in (self._reads or ()):
            kind = "" if self._reads is None else f"; task {self.task.name!r} reads {_called(self._reads)}"
            raise InputError(f"{word!r}: no such file or folder{kind}")
        return self._checked(f"{word!r}", Example("", "", word), word)

    def _checked(self, where: str, example: Example, name: str) -> Example:
        text = example.text if example.text is not None or example.image is None else self.question
        example = replace(example, id=name, text=text, target=stand_in(self.task, example.candidates))
        try:
            return checked(self.task, where, example, self._reads)
        except InputError as error:
            raise InputError(str(error) if where in str(error) else f"{where}: {error}") from error


def shown(example: Example) -> str:
    """Return what an input is called in a list: the path of its image, or its text."""
    return str(example.image) if isinstance(example.image, Path) else example.text or example.id


def _called(reads: Reads) -> str:
    return " with ".join({"image": "images", "text": "texts"}[one] for one in sorted(reads))


def _exists(word: str) -> bool:
    try:
        return bool(word) and Path(word).exists()
    except (OSError, ValueError):  # too long, or with a zero in it: a text
        return False


def _matches(word: str) -> list[str]:
    """Return what a pattern matches, in order; hidden files and folders only if it names them."""
    if not glob.has_magic(word):
        return []
    try:
        return sorted(glob.glob(word, recursive=True))
    except (OSError, ValueError):
        return []


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder in order, without hidden files and a system's own."""
    for entry in sorted(folder.iterdir()):
        if is_ignored(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _images(entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            yield entry

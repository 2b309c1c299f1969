"""Where the answers of `pitune predict` go: a file of the form that its name says, or the screen."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitune.commands.set_up import check_file
from pitune.errors import InputError
from pitune.files import json_text, write_atomic

if TYPE_CHECKING:
    from pitune.training import Answer


def check_predictions(out: Path, inputs: Sequence[str]) -> None:
    """Raise `InputError` unless answers can be written to `out`: of a known form, and none of the inputs."""
    if out.suffix.lower() not in _WRITERS:
        raise InputError(f"--out {out}: expected a name that ends in {', '.join(_WRITERS)}")
    check_file(out)
    if out.exists() and any(Path(one).is_file() and out.samefile(one) for one in inputs if len(one) < 4096):
        raise InputError(f"--out {out}: is one of the inputs; choose another file")


def prediction(name: str, shown: str, answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON has it; without probabilities where any text might have been the answer."""
    row: dict[str, Any] = {"id": name, "input": shown, "answer": answer.answer}
    if answer.probability is None:
        return row
    return row | {"probability": answer.probability, "probabilities": dict(answer.probabilities)}


def write_predictions(out: Path, rows: Sequence[Mapping[str, Any]], top: int) -> None:
    """Write answers, the `top` likeliest of each, in the form that the file's name says; whole or not at all."""
    ranked = [
        {**row, "probabilities": dict(sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:top])}
        if "probabilities" in row
        else dict(row)
        for row in rows
    ]
    write_atomic(out, _WRITERS[out.suffix.lower()](ranked))


def _flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one column for each value: the answer and its probability, then `answer_2`, `probability_2` and so on."""
    flat = []
    for row in rows:
        cells = {name: row.get(name) for name in ("id", "input", "answer", "probability")}
        others = [pair for pair in row.get("probabilities", {}).items() if pair[0] != row["answer"]]
        for place, (answer, probability) in enumerate(others, 2):
            cells |= {f"answer_{place}": answer, f"probability_{place}": probability}
        flat.append(cells)
    names = dict.fromkeys(name for cells in flat for name in cells)
    return [{name: cells.get(name) for name in names} for cells in flat]


def _separated(separator: str) -> Callable[[Sequence[Mapping[str, Any]]], bytes]:
    def write(rows: Sequence[Mapping[str, Any]]) -> bytes:
        flat = _flat(rows)
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, list(flat[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows({name: _inert(cell) for name, cell in row.items()} for row in flat)
        return sink.getvalue().encode()

    return write


def _inert(cell: object) -> object:
    """Return a cell such that a spreadsheet shows it: a text that begins as a formula does has a quote before it."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if re.fullmatch(r"[+-][\d.,]+(e[+-]?\d+)?", cell, re.IGNORECASE) else f"'{cell}"


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json_text(row) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_flat(rows)), sink)
    return sink.getvalue()


_WRITERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], bytes]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _lines,
    ".parquet": _parquet,
}

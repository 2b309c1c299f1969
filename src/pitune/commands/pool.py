"""`pitune pool`: a folder of experts."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import changing_nothing, report, shown, table
from pitune.commands.set_up import check_writable, open_pool, quieten
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Expert

Name = Annotated[str, Argument(metavar="NAME", help="An expert of the pool.")]


_COLUMNS = ("name", "method", "task", "shots", "seed", "metric", "validation", "parameters")
_SPARE = ("seed", "method", "parameters", "metric", "shots")  # what a name mostly tells first


def list_experts(pool: options.PoolFolder, common: options.Common) -> None:
    """List the experts of a pool."""
    quieten()
    from pitune.experts import PoolIndex

    entries = PoolIndex(open_pool(pool)).entries.values()
    good = [[getattr(entry, column) for column in _COLUMNS] for entry in entries if not entry.problem]
    notes = changing_nothing((one.name, one.untouched) for one in entries)
    notes += [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
    rows = [
        {column: None if entry.problem and column != "name" else getattr(entry, column) for column in _COLUMNS}
        | {"problem": entry.problem}
        for entry in entries
    ]
    report(common.as_json, {"pool": str(pool), "experts": rows}, [table(_COLUMNS, good, spare=_SPARE), *notes])


def show(name: Name, pool: options.PoolFolder, common: options.Common) -> None:
    """Show an expert's card."""
    quieten()
    expert = open_pool(pool).get(name)
    card = expert.card.model_dump(mode="json")
    result = {"method": expert.method, "config": dict(expert.config), "parameters": expert.parameters, "card": card}
    parts = ", ".join(f"{shown(weight)} × {name}" for name, weight in expert.card.parts.items())
    plain = {key: value for key, value in card.items() if key not in ("hyperparameters", "parents")}
    rows = {"method": expert.method, "parameters": expert.parameters, **plain, **card["hyperparameters"]}
    rows["mixed of"] = parts
    nothing = changing_nothing([(name, expert.untouched)])
    fields = [(key, _short(value)) for key, value in rows.items()]
    report(common.as_json, result | {"untouched": expert.untouched}, [table(("field", "value"), fields), *nothing])


def verify(pool: options.PoolFolder, common: options.Common) -> None:
    """Check every file of every expert against its hash."""
    quieten()
    from pitune.experts import problem_of

    opened = open_pool(pool)
    found = {name: problem_of(opened, name) for name in opened.names()}
    told = {"pool": str(pool), "experts": [{"name": name, "problem": problem} for name, problem in found.items()]}
    report(common.as_json, told, [table(("expert", "state"), [(name, why or "sound") for name, why in found.items()])])
    bad = [why for why in found.values() if why]
    if bad:
        raise InputError(f"{pool}: {len(bad)} of {len(found)} experts are not sound; the first: {bad[0]}")


def add(
    expert: Annotated[Path, Argument(metavar="EXPERT", help="An expert's folder.")],
    *,
    pool: options.PoolFolder,
    name: Annotated[str | None, Option(help="Name in the pool; its own unless given.")] = None,
    common: options.Common,
) -> None:
    """Copy an expert into a pool, made if it is not there."""
    quieten()
    from pitune.experts import load_expert

    _take_in(load_expert(expert), pool, name, common)


def remove(name: Name, pool: options.PoolFolder, common: options.Common) -> None:
    """Delete an expert from a pool."""
    quieten()
    open_pool(pool).remove(name)
    report(common.as_json, {"removed": name, "pool": str(pool)}, [f"removed {name} from {pool}"])


def clean(pool: options.PoolFolder, common: options.Common) -> None:
    """Put in order what killed processes have left in a pool."""
    quieten()
    left = [str(path) for path in open_pool(pool).recovered]
    report(common.as_json, {"pool": str(pool), "dealt_with": left}, left or [f"{pool}: nothing to clean"])


def import_expert(
    source: Annotated[str, Argument(metavar="SOURCE", help="A PEFT LoRA's folder, or its hub id.")],
    *,
    pool: options.PoolFolder,
    name: Annotated[str, Option(help="Name in the pool.")],
    any_base: Annotated[
        bool, Option("--any-base", help="Its base model is the backbone, though under another name.")
    ] = False,
    convert: Annotated[
        float | None,
        Option(
            metavar="RANK",
            help="Turn another kind of adapter into a LoRA of this rank; below 1, of the share of ΔW's energy to keep.",
            show_default=False,
        ),
    ] = None,
    backbone: options.BackboneName = options.BACKBONE,
    common: options.Common,
) -> None:
    """Take a LoRA that PEFT saved into a pool, made if it is not there."""
    quieten()
    from pitune.backbones import load_backbone
    from pitune.experts import ExpertPool, check_name, import_peft

    check_name(name)
    check_writable(pool)
    expert = import_peft(source, load_backbone(backbone, common.device), name, any_base, convert=convert)
    path = ExpertPool(pool).add(expert)
    told = {"expert": name, "method": expert.method, "parameters": expert.parameters, "folder": str(path)}
    lines = [f"imported {name} as {path}: {expert.method}, {expert.parameters:,} parameters"]
    origin = expert.card.hyperparameters["origin"]
    if made := origin.get("conversion"):
        lines.append(f"made of {made['peft_type']}: ΔW is off by {made['error']:.2%} (relative, Frobenius norm)")
    notes = origin.get("notes", [])
    report(common.as_json, told | {"conversion": made, "notes": notes}, [*lines, *notes])


def export_expert(
    name: Name,
    *,
    pool: options.PoolFolder,
    out: Annotated[Path, Option(metavar="DIR", help="The folder to write, which must be free.")],
    server: Annotated[
        Literal["peft", "vllm", "sglang", "lorax", "gguf"],
        Option("--for", help="Who reads it; of a server, its command is printed. gguf is for llama.cpp."),
    ] = "peft",
    merged: Annotated[
        bool, Option("--merged", help="Write the whole model with the expert in its weights instead.")
    ] = False,
    backbone: Annotated[
        str | None, Option(help="Where its backbone is, if not under its own name.", show_default=False)
    ] = None,
    common: options.Common,
) -> None:
    """Write an expert as a folder that PEFT or a server loads, read back before it is there, or as a whole model."""
    quieten()
    from pitune.backbones import load_backbone
    from pitune.experts import check_exports, export_for, export_peft, merge_into, save_merged

    if merged and server != "peft":
        raise InputError(f"--for {server} --merged: every server reads a whole model; leave out --for")
    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: exists; choose a folder that is free")
    expert = open_pool(pool).get(name)
    if not merged and server == "peft":
        check_exports(expert)
    base = load_backbone(backbone or expert.card.base_model, common.device)
    checked = served = None
    if merged:
        save_merged(merge_into(base, expert), out)
    elif server == "peft":
        checked = export_peft(expert, out, base)
    else:
        served = export_for(expert, out, base, server)
    lines = [f"wrote {name} to {out}"]
    if served is not None:
        lines.append(f"serve it, of rank {served.rank}, with: {served.command}")
    if checked is not None:
        error = "" if checked.error is None else f"; changes of weights are off by at most {checked.error:.1e} of them"
        lines.append(f"read back with PEFT: {checked.tensors} tensors, all of them{error}")
    result = {"expert": name, "method": expert.method, "merged": merged, "folder": str(out)}
    told = {"checked": checked and asdict(checked), "for": server, "served": served and asdict(served)}
    report(common.as_json, result | told, lines)


def push(
    name: Name,
    to: Annotated[str, Argument(metavar="TO", help="OWNER/NAME of the hub, or the URL of a folder, as s3://….")],
    *,
    pool: options.PoolFolder,
    task: Annotated[
        str | None, Option(help="Its task's data, to tell its licence and labels; not needed for a named task.")
    ] = None,
    licence: Annotated[str, Option(help="The expert's licence; that of its data unless given.")] = "",
    trained_on: Annotated[str, Option(help="The hardware and the time that it took, in your words.")] = "",
    no_examples: Annotated[bool, Option("--no-examples", help="Show no example of the data.")] = False,
    private: Annotated[bool, Option("--private", help="Make a repository that others do not see.")] = False,
    common: options.Common,
) -> None:
    """Share an expert with its model card, on the hub or in any folder that fsspec reaches."""
    quieten()
    from pitune.experts import Sharing, hub_card, push_expert
    from pitune.tasks import library_of, load_task

    expert = open_pool(pool).get(name)
    if task is None and library_of(expert.card.task) is not None:
        task = expert.card.task
    known = load_task(task) if task is not None else None
    if known is not None and expert.card.data_hash not in ("", known.data_hash):
        raise InputError(f"--task {task}: is not the data that {name} learned from; give that, or leave it out")
    sharing = Sharing(to, known, licence, trained_on, examples=not no_examples)
    push_expert(expert, to, hub_card(expert, sharing), private=private)
    report(common.as_json, {"expert": name, "to": to}, [f"pushed {name} to {to}"])


def pull(
    source: Annotated[str, Argument(metavar="FROM", help="OWNER/NAME or OWNER/NAME@REVISION, or a folder's URL.")],
    *,
    pool: options.PoolFolder,
    name: Annotated[str | None, Option(help="Name in the pool; its own unless given.")] = None,
    common: options.Common,
) -> None:
    """Take a shared expert into a pool, made if it is not there, checked as any other."""
    quieten()
    from pitune.experts import pull_expert

    check_writable(pool)
    _take_in(pull_expert(source), pool, name, common)


def _take_in(expert: Expert, pool: Path, name: str | None, common: options.Common) -> None:
    from pitune.experts import ExpertPool, check_name

    called = check_name(expert.name if name is None else name)
    check_writable(pool)
    path = ExpertPool(pool).add(replace(expert, card=expert.card.model_copy(update={"name": called})))
    report(common.as_json, {"expert": called, "folder": str(path)}, [f"added {called} as {path}"])


def _short(value: object) -> object:
    """Cut hashes to what people compare."""
    return f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else value

"""`pitune pool`: a folder of experts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pitune.commands import options as options
from pitune.commands.output import report, table
from pitune.errors import InputError

Name = Annotated[str, typer.Argument(metavar="NAME", help="An expert of the pool.")]
_COLUMNS = ("name", "method", "task", "shots", "seed", "metric", "validation", "parameters")


def list_experts(
    pool: options.PoolFolder,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """List the experts of a pool."""
    rows = _look(pool)
    good = [[row[column] for column in _COLUMNS] for row in rows if not row["problem"]]
    bad = [f"{row['name']}: {row['problem']}" for row in rows if row["problem"]]
    report(as_json, {"pool": str(pool), "experts": rows}, [table(_COLUMNS, good), *bad])


def show(
    name: Name,
    pool: options.PoolFolder,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show an expert's card."""
    from pitune.commands.set_up import open_pool, quieten

    quieten()
    expert = open_pool(pool).get(name)
    card = expert.card.model_dump(mode="json")
    result = {"method": expert.method, "config": dict(expert.config), "parameters": expert.parameters, "card": card}
    parents = ", ".join(parent.name for parent in expert.card.parents)
    plain = {key: value for key, value in card.items() if key not in ("hyperparameters", "parents")}
    rows = {
        "method": expert.method,
        "parameters": expert.parameters,
        **plain,
        **card["hyperparameters"],
        "parents": parents,
    }
    report(as_json, result, [table(("field", "value"), [(key, _short(value)) for key, value in rows.items()])])


def verify(
    pool: options.PoolFolder,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Check every file of every expert against its hash."""
    rows = _look(pool)
    lines = [(row["name"], row["problem"] or "sound") for row in rows]
    result = {"pool": str(pool), "experts": [{"name": row["name"], "problem": row["problem"]} for row in rows]}
    report(as_json, result, [table(("expert", "state"), lines)])
    bad = [row for row in rows if row["problem"]]
    if bad:
        raise InputError(f"{pool}: {len(bad)} of {len(rows)} experts are not sound; the first: {bad[0]['problem']}")


def add(
    expert: Annotated[Path, typer.Argument(metavar="EXPERT", help="An expert's folder.")],
    pool: options.PoolFolder,
    name: Annotated[
        str | None, typer.Option(help="Name in the pool; its own unless given.", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Copy an expert into a pool, made if it is not there."""
    from pitune.commands.set_up import check_writable, quieten

    quieten()
    from pitune.experts import ExpertPool, check_name, load_expert

    found = load_expert(expert)
    called = check_name(found.name if name is None else name)
    check_writable(pool)
    path = ExpertPool(pool).add(replace(found, card=found.card.model_copy(update={"name": called})))
    report(as_json, {"expert": called, "folder": str(path)}, [f"added {called} as {path}"])


def remove(
    name: Name,
    pool: options.PoolFolder,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Delete an expert from a pool."""
    from pitune.commands.set_up import open_pool, quieten

    quieten()
    open_pool(pool).remove(name)
    report(as_json, {"removed": name, "pool": str(pool)}, [f"removed {name} from {pool}"])


def import_expert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A PEFT LoRA's folder, or its hub id.")],
    pool: options.PoolFolder,
    name: Annotated[str, typer.Option(help="Name in the pool.")],
    any_base: Annotated[
        bool, typer.Option("--any-base", help="Its base model is the backbone, though under another name.")
    ] = False,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Take a LoRA that PEFT saved into a pool, made if it is not there."""
    from pitune.commands.set_up import check_writable, open_backbone, quieten

    quieten()
    from pitune.experts import ExpertPool, check_name, import_peft

    check_name(name)
    check_writable(pool)
    expert = import_peft(source, open_backbone(backbone, device), name, any_base)
    path = ExpertPool(pool).add(expert)
    report(
        as_json,
        {"expert": name, "method": expert.method, "parameters": expert.parameters, "folder": str(path)},
        [f"imported {name} as {path}: {expert.method}, {expert.parameters:,} parameters"],
    )


def export_expert(
    name: Name,
    pool: options.PoolFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, which must be free.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="Write the whole model with the expert in its weights instead.")
    ] = False,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Write an expert as a folder that plain PEFT loads, or as a whole model."""
    from pitune.commands.set_up import check_writable, open_backbone, open_pool, quieten

    quieten()
    from pitune.experts import export_peft, merge_into, save_merged

    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: exists; choose a folder that is free")
    expert = open_pool(pool).get(name)
    if merged:
        save_merged(merge_into(open_backbone(backbone, device), expert), out)
    else:
        export_peft(expert, out, open_backbone(backbone, device) if expert.method == "layernorm" else None)
    result = {"expert": name, "method": expert.method, "merged": merged, "folder": str(out)}
    report(as_json, result, [f"wrote {name} to {out}"])


def _look(folder: Path) -> list[dict[str, Any]]:
    """Return one row an expert; one that cannot be read has a problem instead of its facts."""
    from pitune.commands.set_up import open_pool, quieten

    quieten()
    pool = open_pool(folder)
    rows = []
    for name in pool.names():
        row: dict[str, Any] = dict.fromkeys((*_COLUMNS, "problem")) | {"name": name}
        try:
            expert = pool.get(name)
        except InputError as error:
            rows.append(row | {"problem": str(error)})
            continue
        card = expert.card.model_dump(include={"task", "shots", "seed", "metric", "validation"})
        rows.append(row | card | {"method": expert.method, "parameters": expert.parameters})
    return rows


def _short(value: object) -> object:
    """Cut hashes to what people compare."""
    return f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else value

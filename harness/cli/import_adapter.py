"""`breakeven import-adapter`: what was tuned elsewhere, back into a run, with what it cost.

Writes a record beside the adapter, and the strategy that evaluates it into a run or a suite. What the user
states is kept as stated; what is not stated stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from breakeven.harness import store
from breakeven.harness.cli.export import RECORD as EXPORTED
from breakeven.harness.errors import UserError

RECORD = "breakeven-import.json"
WEIGHTS = "adapter_model.safetensors"


def import_adapter(
    what: str,
    export: Path | None = None,
    into: Path | None = None,
    name: str = "",
    seconds: float | None = None,
    money: float | None = None,
    currency: str = "USD",
    hardware: str = "",
    prices: Path | None = None,
    unchecked: bool = False,
) -> None:
    """Record an adapter (a folder) or a hosted model (an id), and say or write how a run evaluates it.

    Args:
        export: folder of the export it was made from; found beside or above the adapter unless said.
        into: a run folder, or a suite file to write; without it, the strategy is printed.
        name: of the strategy; that of the export and the system unless said.
        seconds: that training took, as stated.
        money: that it cost, as stated, in `currency`. Without it, the seconds times the price of an hour of
            `hardware`, where the price book knows that name.
        unchecked: accept weights of which nobody knows what rows they were tuned on.

    Raises:
        UserError: no such adapter, nothing that says what it was trained on, amounts that are none.
    """
    for field, value in (("--seconds", seconds), ("--money", money)):
        if value is not None and (value < 0 or not math.isfinite(value)):
            raise UserError(f"{value:g} is not an amount", field=field, hint="0 or more")
    folder = Path(what)
    hosted = not folder.is_dir()
    if hosted and ("/" in what or not what.strip()):
        raise UserError("there is no such folder", file=what, hint="an adapter's folder, or a model's id")
    if not hosted and not (folder / WEIGHTS).is_file():
        raise UserError(f"no adapter: {WEIGHTS} is missing", file=folder)
    known = _export(folder if not hosted else None, export)
    if known is None and not unchecked:
        raise UserError(
            "nothing says which rows these weights were tuned on, so they may have seen the test examples",
            file=None if hosted else folder,
            field="--export",
            hint=f"name the folder with {EXPORTED}, or accept that with --unchecked",
        )
    place = folder if not hosted else (export or Path())
    amount, how = _money(seconds, money, hardware, currency, prices)
    record = {
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": what if hosted else "",
        "unchecked": unchecked,
        "cost": {
            "seconds": seconds,
            "money": amount,
            "currency": currency if amount is not None else "",
            "hardware": hardware,
            "source": how,
        },
        "export": known,
    }
    settings = _strategy(what, place, hosted, known)
    label = name or _label(known)
    data = _into(into, label, settings, what if hosted else "", known, currency) if into else None
    store.write_json(place / RECORD, record)
    print(f"wrote {place / RECORD}: {how}")
    if into is None or data is None:
        print("the strategy that evaluates it:\n")
        print(yaml.safe_dump({"strategies": {label: settings}}, sort_keys=False, width=110).rstrip())
        return
    is_run = (into / "suite.yaml").exists() if into.is_dir() else False
    file = into / "suite.yaml" if is_run else into
    store.write_text(file, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))
    print(f"next: breakeven run {'--resume ' if is_run else ''}{into}")


def _export(folder: Path | None, given: Path | None) -> dict[str, Any] | None:
    """The record of the export. Raises UserError when the folder that is named has none."""
    if given is not None:
        found = given / EXPORTED if given.is_dir() else given
        if not found.is_file():
            raise UserError(f"there is no {EXPORTED}", file=given, field="--export")
        return dict(store.read_json(found))
    near = [folder, *folder.resolve().parents[:3]] if folder is not None else [Path()]
    record = next((p / EXPORTED for p in near if (p / EXPORTED).is_file()), None)
    return dict(store.read_json(record)) if record is not None else None


def _money(
    seconds: float | None, money: float | None, hardware: str, currency: str, prices: Path | None
) -> tuple[float | None, str]:
    """What training cost and how that is known; None where it is not."""
    if money is not None:
        return money, f"{money:g} {currency}, stated by the user"
    if seconds is None or not hardware:
        return None, "what training cost is unknown, since neither money nor seconds and hardware are stated"
    from breakeven.harness.prices import PriceBook

    hour = PriceBook.load(prices, currency=currency).machine_hour(hardware)
    if hour is None:
        return None, f"what training cost is unknown: the price book has no hour of '{hardware}'"
    amount = seconds / 3600 * hour.price
    return amount, f"{amount:g} {currency}: {seconds:g} s as stated, at {hour.price:g} an hour of {hardware}"


def _strategy(what: str, place: Path, hosted: bool, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The exported strategy with its weights imported; of unknown ones, the weights alone.

    What they were trained on stays part of it, so that it can be compared.
    """
    weights: dict[str, Any] = {"trainer": "imported", **((known or {}).get("material") or {})}
    weights |= (
        {"model": what, "record": str(place.resolve())} if hosted else {"adapter": str(place.resolve())}
    )
    settings = dict((known or {}).get("strategy_settings") or {})
    return {"strategy": (known or {}).get("factory") or "levers", **settings, "weights": weights}


def _label(known: Mapping[str, Any] | None) -> str:
    return f"{known['strategy']}-{known['system']}" if known else "imported"


def _into(
    into: Path,
    label: str,
    settings: dict[str, Any],
    model: str,
    known: Mapping[str, Any] | None,
    currency: str,
) -> dict[str, Any]:
    """A run's suite, or a new one, with the strategy in it.

    Raises:
        UserError: a suite that is there already, a strategy of that name, another currency.
    """
    if into.is_dir():
        file = into / "suite.yaml"
        if not file.is_file():
            raise UserError("not a run folder: there is no suite.yaml in it", file=into, field="--into")
        data: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    elif into.exists():
        raise UserError(
            "is there already, and its comments would be lost",
            file=into,
            field="--into",
            hint="leave --into out and paste what is printed",
        )
    elif known is None:
        raise UserError("nothing says which task it is for", field="--into", hint="give a run folder")
    else:
        data = {
            "suite": into.name.split(".")[0],
            "tasks": {known["task"]: known["task_entry"]},
            **({} if model else {"models": known["models"]}),
            **({"allow_hosts": known["allow_hosts"]} if known.get("allow_hosts") is not None else {}),
            "strategies": {"zero-shot": {}},
        }
    if label in (data.get("strategies") or {}):
        raise UserError(f"there is a strategy '{label}' already", field="--name", hint="take another name")
    counted = (data.get("economics") or {}).get("currency", "USD")
    if counted != currency:
        raise UserError(
            f"the run counts in {counted}, the money is stated in {currency}",
            field="--currency",
            hint=f"state it in {counted}",
        )
    entry = dict(settings)
    if model:
        data["models"] = {**(data.get("models") or {}), label: _hosted(model, known)}
        entry["models"] = [label]
    data["strategies"] = {**(data.get("strategies") or {}), label: entry}
    return data


def _hosted(model: str, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entry of a model at a provider: asked where and as the model that was exported was asked.

    The price of the untuned model's tokens is not that of the tuned one's, so `price_as` is not taken over.
    """
    entries = ((known or {}).get("models") or {}).values()
    asked = next((dict(entry) for entry in entries if entry.get("engine") == "openai"), {})
    asked.pop("price_as", None)
    return {**asked, "model": model, "engine": "openai"}

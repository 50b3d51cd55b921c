"""The commands and their options. Each is a plain function in a module of its own, imported when called.

Exit codes: 0 done; 1 a cell failed or was stopped, `--strict` found something, a threshold was passed; 2 a
mistake in what was given, said in one sentence; 3 only hosted jobs are waited for; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """The group of all commands, whose own `--help` is off rather than unset when a command is named.

    Typer converts an unset option with pydantic, which takes longer to import than a command's help to print.
    """

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


app = typer.Typer(
    name="breakeven",
    cls=Commands,
    help="Prompt, retrieve or fine-tune? Measures them on your task and says what each costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

OptionalPath = Optional[Path]  # noqa: UP045 - typer reads it at run time
OptionalInt = Optional[int]  # noqa: UP045
OptionalFloat = Optional[float]  # noqa: UP045


def main() -> None:
    """Entry point: a user's mistake becomes one sentence on stderr and exit code 2."""
    from breakeven.harness.errors import UserError

    try:
        app()
    except UserError as error:
        print(f"breakeven: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name or YAML file.", show_default=False)] = "",
    resume: Annotated[
        OptionalPath, typer.Option(help="Go on with this run folder instead of starting a new one.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Folder name of the run; default: the suite's and a number.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    only: Annotated[
        list[str], typer.Option(help="Only strategies or cells that match, e.g. 'lora*'. Repeatable.")
    ] = [],  # noqa: B006
    limit: Annotated[OptionalInt, typer.Option(help="At most so many test examples per task.", min=1)] = None,
    change: Annotated[
        list[str], typer.Option("--set", help="Change the suite: key.key=value. Repeatable.")
    ] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")] = False,
    keep_prompts: Annotated[bool, typer.Option("--keep-prompts", help="Store each rendered prompt.")] = False,
    prices: Annotated[OptionalPath, typer.Option(help="YAML of your own prices, laid over ours.")] = None,
    estimate: Annotated[
        OptionalPath,
        typer.Option(
            help="File of `breakeven estimate --save`: kept with the run, whose reports set it beside "
            "what was taken."
        ),
    ] = None,
    no_preflight: Annotated[
        bool, typer.Option("--no-preflight", help="Do not look at trainings before the first one starts.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Accept what others would bill, above limits.ask_above too.")
    ] = False,
) -> None:
    """Fit and score every strategy of a SUITE on the same examples, and write the report."""
    from breakeven.harness.cli.run import run as command

    raise typer.Exit(
        command(
            suite,
            resume,
            name or None,
            out,
            only,
            limit,
            change,
            dry_run,
            keep_prompts,
            prices,
            estimate,
            not no_preflight,
            yes,
        )
    )


@app.command()
def estimate(
    suite: Annotated[str, typer.Argument(help="A suite's name or YAML file.", show_default=False)],
    change: Annotated[
        list[str], typer.Option("--set", help="Change the suite: key.key=value. Repeatable.")
    ] = [],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="Only strategies or cells that match. Repeatable.")] = [],  # noqa: B006
    limit: Annotated[OptionalInt, typer.Option(help="At most so many test examples per task.", min=1)] = None,
    prices: Annotated[OptionalPath, typer.Option(help="YAML of your own prices, laid over ours.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each model is tried, loading left out.")] = 20.0,
    ask_hosted: Annotated[
        bool, typer.Option("--ask-hosted", help="Ask hosted models a few requests too; costs money.")
    ] = False,
    save: Annotated[OptionalPath, typer.Option(help="Write the estimate to this file (JSON).")] = None,
) -> None:
    """Say what a SUITE would take before it runs: tokens, minutes, money, memory; what would be cheaper."""
    from breakeven.harness.cli.estimate import estimate as command

    command(suite, change, only, limit, prices, seconds, ask_hosted, save)


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="A model's name, folder or Hub id.")] = "smollm2-135m-instruct",
    machine: Annotated[str, typer.Option(help="This machine's name in the price book, e.g. cpu-2.")] = "",
    trainer: Annotated[str, typer.Option(help="Trainer to time; '' leaves training out.")] = "peft",
    change: Annotated[
        list[str], typer.Option("--set", help="Setting of the engine: key=value. Repeatable.")
    ] = [],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="How long training is tried.")] = 10.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("probe.json"),
) -> None:
    """Measure how fast a MODEL reads, writes and trains on this machine."""
    from breakeven.harness.cli.probe import probe as command

    command(model, machine, trainer, change, seconds, output)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart-1.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="html, md, csv, json, parquet, junit, or an installed one.")
    ] = "html",
    output: Annotated[
        OptionalPath, typer.Option("--output", "-o", help="Default: in the run folder; - prints.")
    ] = None,
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Leave the test examples out.")] = False,
    prices: Annotated[OptionalPath, typer.Option(help="YAML of your own prices: re-price the run.")] = None,
    change: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Another volume, value or price: requests_per_month=2e6, value_per_correct=0.1, "
            "machine_hour=0.2, api_price=0.5 (a factor), people.hourly_rate=90. Nothing is run again.",
        ),
    ] = [],  # noqa: B006
    probe: Annotated[
        list[Path],
        typer.Option(
            help="File of `breakeven probe`, made on the machine to be priced: its speeds take the place of "
            "the run's. Repeatable, for several models."
        ),
    ] = [],  # noqa: B006
    estimate: Annotated[
        OptionalPath,
        typer.Option(help="File of `breakeven estimate --save`, set beside what the run took."),
    ] = None,
) -> None:
    """Write the report of a finished (or unfinished) run."""
    from breakeven.harness.cli.report import report as command

    command(folder, format, output, not no_examples, prices, change, probe, estimate)


@app.command()
def retrieval(
    suite: Annotated[str, typer.Argument(help="A suite's name or file.", show_default=False)],
    change: Annotated[
        list[str],
        typer.Option("--set", help="Change the suite: key.key=value. Repeatable."),
    ] = [],  # noqa: B006
    limit: Annotated[OptionalInt, typer.Option(help="At most so many questions of each task.", min=2)] = None,
    format: Annotated[str, typer.Option("--format", help="text, md or json.")] = "text",
    save: Annotated[OptionalPath, typer.Option(help="File to write too: .md or .json.")] = None,
) -> None:
    """How well a suite's strategies find the document that answers, by stage; asks no language model."""
    from breakeven.harness.cli.retrieval import retrieval as command

    command(suite, change, limit, format, save)


@app.command()
def transfer(
    folder: Annotated[Path, typer.Argument(help="A finished run with tuned strategies.", show_default=False)],
    examples: Annotated[int, typer.Option(help="Test examples of each other task.", min=2)] = 24,
) -> None:
    """What tuning did to other tasks and to general questions: every adapter of a run, before and after."""
    from breakeven.harness.cli.transfer import transfer as command

    command(folder, examples)


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart-1.", show_default=False)],
    change: Annotated[
        list[str],
        typer.Option("--set", help="Change a task: tasks.NAME.args.data=corrected.csv. Repeatable."),
    ] = [],  # noqa: B006
    metric: Annotated[
        list[str], typer.Option("--metric", help="TASK=METRIC: judge by another metric. Repeatable.")
    ] = [],  # noqa: B006
    out: Annotated[OptionalPath, typer.Option(help="New run folder; default: RUN-rescored.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the run itself; what was there goes to RUN/before.")
    ] = False,
    keep_missing: Annotated[
        bool,
        typer.Option("--keep-missing", help="Examples missing in the data keep their references."),
    ] = False,
    why: Annotated[str, typer.Option(help="A reason, recorded with the run.")] = "",
) -> None:
    """Score the stored outputs of a run again: corrected references, another metric. Nothing is run."""
    from breakeven.harness.cli.score import score as command

    command(folder, change, metric, out, in_place, keep_missing, why)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Two run folders or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new run folder.", show_default=False)],
    prefer: Annotated[str, typer.Option(help="The run that counts where outputs of a cell differ.")] = "",
) -> None:
    """Join runs made on several machines into one. Nothing is run."""
    from breakeven.harness.cli.merge import merge as command

    command(folders, out, prefer)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="The first run folder.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="The second.", show_default=False)],
    format: Annotated[str, typer.Option("--format", help="text, md or json.")] = "text",
    max_quality_drop: Annotated[
        OptionalFloat,
        typer.Option(help="Exit code 1 if quality falls by more, as a share of its range: 0.02.", min=0),
    ] = None,
    max_cost_rise: Annotated[
        OptionalFloat,
        typer.Option(help="Exit code 1 if 1,000 requests cost more by this share: 0.10.", min=0),
    ] = None,
    same_verdict: Annotated[
        bool, typer.Option("--same-verdict", help="Exit code 1 if a task's verdict changes.")
    ] = False,
) -> None:
    """Show what changed from one run to another in quality, cost, latency and verdict, and why."""
    from breakeven.harness.cli.compare import compare as command

    raise typer.Exit(command(before, after, format, max_quality_drop, max_cost_rise, same_verdict))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="tasks, strategies, models or suites.", show_default=False)],
) -> None:
    """List what is installed: tasks, strategies, models or suites."""
    from breakeven.harness.cli.listing import listing

    listing(what)


@app.command()
def doctor() -> None:
    """Say what is usable on this machine, trainers above all, and why the rest is not."""
    from breakeven.harness.cli.doctor import doctor as command

    command()


@app.command()
def validate(
    task: Annotated[
        str, typer.Argument(help="A task's name, YAML file or file.py:function.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="Model whose context and tokenizer prompts are checked against.")
    ] = "",
    set_: Annotated[
        list[str], typer.Option("--arg", help="Argument of the task: name=value. Repeatable.")
    ] = [],  # noqa: B006
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too (exit code 1).")] = False,
) -> None:
    """Check a task: splits, leakage, labels, templates, encoding, prompt length."""
    from breakeven.harness.cli.check import check

    raise typer.Exit(check(task, model, set_, strict))


@app.command()
def preflight(
    what: Annotated[str, typer.Argument(help="A suite or a task, by name or file.", show_default=False)],
    strategy: Annotated[str, typer.Option(help="Of a task: which strategy is looked at.")] = "lora",
    model: Annotated[str, typer.Option(help="Of a task: which model.")] = "",
    only: Annotated[list[str], typer.Option(help="Only strategies or cells that match. Repeatable.")] = [],  # noqa: B006
    change: Annotated[
        list[str], typer.Option("--set", help="Change the suite: key.key=value. Repeatable.")
    ] = [],  # noqa: B006
    prices: Annotated[OptionalPath, typer.Option(help="YAML of your own prices, laid over ours.")] = None,
    no_cost: Annotated[bool, typer.Option("--no-cost", help="Predict no cost: loads no model.")] = False,
    max_money: Annotated[
        OptionalFloat,
        typer.Option(help="Predicted cost above which --yes is asked for; default: limits.ask_above.", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept the predicted cost.")] = False,
) -> None:
    """Look at what would be trained before any training: one example, its loss mask, the predicted cost."""
    from breakeven.harness.cli.preflight import preflight as command

    raise typer.Exit(command(what, strategy, model, only, change, prices, not no_cost, max_money, yes))


@app.command()
def init(
    data: Annotated[str, typer.Option(help="Rows: JSONL, CSV, Parquet, a folder, or a Hub data set.")] = "",
    input: Annotated[str, typer.Option("--input", help="Column(s) the model sees, comma-separated.")] = "",
    reference: Annotated[str, typer.Option(help="Column with the right answer.")] = "",
    documents: Annotated[OptionalPath, typer.Option(help="Folder of documents to retrieve from.")] = None,
    group: Annotated[
        str, typer.Option(help="Column that says which rows belong together, or which document answers.")
    ] = "",
    language: Annotated[str, typer.Option(help="Language of the data, ISO 639-1.")] = "en",
    name: Annotated[str, typer.Option(help="Name of the task.")] = "",
    improve: Annotated[
        str, typer.Option(help="What should get better: accuracy, format, style, knowledge, cost, latency.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take defaults instead of asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Make a task, a suite and its economics from rows of your own; asks what is missing."""
    from breakeven.harness.cli.init import init as command

    command(
        data=data or None,
        input=input or None,
        reference=reference or None,
        documents=documents,
        group=group or None,
        language=language,
        name=name or None,
        improve=improve or None,
        out=out,
        yes=yes,
        force=force,
    )


@app.command()
def convert(
    data: Annotated[list[str], typer.Argument(help="Files, folders or Hub data sets.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(help="messages, openai, prompt-completion, alpaca, sharegpt, vicuna or text."),
    ],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl, .json, .csv or .parquet.")],
    format: Annotated[str, typer.Option("--from", help="Their format; recognised where left out.")] = "",
    column: Annotated[
        list[str], typer.Option(help="A column that is called otherwise: field=column. Repeatable.")
    ] = [],  # noqa: B006
    ratio: Annotated[
        list[float], typer.Option(help="Share of each data set in the mixture, in their order. Repeatable.")
    ] = [],  # noqa: B006
    examples: Annotated[OptionalInt, typer.Option(help="Rows of the mixture.", min=1)] = None,
    split: Annotated[str, typer.Option(help="Which split, where there are several.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Turn training data into another format, or mix several data sets; what would be lost is refused."""
    from breakeven.harness.cli.convert import convert as command

    command(data, to, out, format, column, ratio, examples, split, force)


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="A task or a suite, by name or file.", show_default=False)],
    to: Annotated[str, typer.Option(help="axolotl, llamafactory, autotrain, unsloth, openai or trl.")],
    strategy: Annotated[str, typer.Option(help="A strategy that tunes, or a YAML file of its settings.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    model: Annotated[str, typer.Option(help="Model that prompts are made for, where a task is given.")] = "",
    base_model: Annotated[str, typer.Option(help="What the other machine loads, if called otherwise.")] = "",
    device: Annotated[str, typer.Option(help="What it will run on: cuda or cpu.")] = "cuda",
    micro_batch: Annotated[OptionalInt, typer.Option(help="Examples in memory at once.", min=1)] = None,
    load_in_4bit: Annotated[bool, typer.Option("--4bit", help="Quantise the base model (QLoRA).")] = False,
    packing: Annotated[bool, typer.Option("--packing", help="Several examples in a row.")] = False,
    key: Annotated[
        list[str], typer.Option(help="Key of the system's own configuration: key=value. Repeatable.")
    ] = [],  # noqa: B006
    change: Annotated[
        list[str], typer.Option("--set", help="Change the suite: key.key=value. Repeatable.")
    ] = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write data and configuration to train a strategy with another system, on another machine."""
    from breakeven.harness.cli.export import export as command

    command(what, to, strategy, out, model, base_model, device, micro_batch, load_in_4bit, packing, key,
            change, force)  # fmt: skip


@app.command("import-adapter")
def import_adapter(
    what: Annotated[
        str,
        typer.Argument(help="An adapter's folder, or a hosted model's id.", show_default=False),
    ],
    export: Annotated[
        OptionalPath, typer.Option(help="Folder of the export; found beside the adapter.")
    ] = None,
    into: Annotated[OptionalPath, typer.Option(help="Run folder to add it to, or new suite file.")] = None,
    name: Annotated[str, typer.Option(help="Name of the strategy.")] = "",
    seconds: Annotated[OptionalFloat, typer.Option(help="How long training took, if you know.")] = None,
    money: Annotated[OptionalFloat, typer.Option(help="What training cost, if you know.")] = None,
    currency: Annotated[str, typer.Option(help="Of the money.")] = "USD",
    hardware: Annotated[str, typer.Option(help="What it ran on; a name in the price book prices it.")] = "",
    prices: Annotated[OptionalPath, typer.Option(help="YAML of your own prices, laid over ours.")] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Accept weights tuned on rows that nobody knows.")
    ] = False,
) -> None:
    """Bring weights that were tuned elsewhere into a run, with what that cost; unknown stays unknown."""
    from breakeven.harness.cli.import_adapter import import_adapter as command

    command(what, export, into, name, seconds, money, currency, hardware, prices, unchecked)


@app.command("new-task")
def new_task(
    name: Annotated[
        str, typer.Argument(help="Name of the task, as a Python identifier.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a commented, working Python task with ten examples and a test."""
    from breakeven.harness.cli.new_task import new_task as command

    command(name, out=out, force=force)


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(metadata.version("breakeven"))
        raise typer.Exit


if __name__ == "__main__":
    main()

"""Killed at every moment, and answers lost at every call: nothing is made, paid or left behind twice.

A training is killed after each of its requests and after each file that it writes (which is also before
what comes next); then it is begun again and goes to its end. So is a deployment.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fine_tuning_server import TOKEN, Azure, FineTuningServer, Lost
from hosted_world import PRICES

pytest.importorskip("openai")

from breakeven.baselines import _hosted, _weights
from breakeven.baselines._settings import WeightSettings
from breakeven.baselines.trainers import _jobs, _sending
from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._protocol import rows
from breakeven.harness import deployments, store
from breakeven.harness.contracts import Services
from breakeven.harness.deployments import Deployment, Plan, Record
from breakeven.harness.engines.openai import openai
from breakeven.harness.errors import NotApplicable, Pending, SpendingLimitReached, UserError
from breakeven.harness.hosted import Endpoint, HostedModel, HostedTrainer, HostedTraining
from breakeven.harness.ledger import Ledger
from breakeven.harness.prices import PriceBook
from breakeven.harness.session import Journal, Session
from breakeven.harness.spending import SpendGuard
from breakeven.harness.training import TrainingPair


class Killed(BaseException):
    """Ends a process where it stands, as SIGKILL does: nothing that follows is done."""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test-8c1d2e3f4a5b")
    monkeypatch.setenv("AZURE_TOKEN", TOKEN)
    monkeypatch.setattr(deployments, "pause", lambda seconds: None)
    (tmp_path / "prices.yaml").write_text(PRICES)
    made = httpx.create_ssl_context()  # reading the certificates takes longer than all else here
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda **_: made)


def pairs(n: int) -> list[TrainingPair]:
    ask = ({"role": "user", "content": "Is it wet or dry?"},)
    return [TrainingPair(str(i), ask, "wet") for i in range(n)]


_books: dict[str, PriceBook] = {}


def book(folder: Path) -> PriceBook:
    """Read once for all tests: YAML takes longer than a training here."""
    file = folder / "prices.yaml"
    if (text := file.read_text()) not in _books:
        _books[text] = PriceBook.load(file)
    return _books[text]


def guard(folder: Path, limit: float | None = 1000.0) -> SpendGuard:
    return SpendGuard(limit, file=folder / "purse.json")


def endpoint(server: FineTuningServer, folder: Path, purse: SpendGuard | None = None) -> Endpoint:
    engine = openai(
        server.base, base_url=server.url, api_key_env="TEST_KEY", price_as="test/tiny", allow_unpriced=True
    )
    engine.bill_to(purse or guard(folder), book(folder))
    return engine.endpoint()


def trained(
    server: FineTuningServer, folder: Path, purse: SpendGuard | None = None, **settings: Any
) -> HostedTraining:
    """One process that trains, from beginning to end."""
    made = JobSettings(**{"epochs": 2, "wait": 60.0, **settings})
    work = folder / "artifact"
    work.mkdir(exist_ok=True)
    job = _jobs.Job(
        endpoint(server, folder, purse),
        made,
        _sending.Dialect("openai"),
        work,
        0,
        lambda done, total, what: None,
        lambda seconds: None if server.hold is not None else server.run_job(),
    )
    return job.run(pairs(12), pairs(3))


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> Iterator[list[str]]:
    """Dies after the so-manyth request or file. Lists the moments."""
    moments: list[str] = []

    def dying(kind: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **more: Any) -> Any:
            made = do(*args, **more)
            moments.append(kind)
            if len(moments) > moment:
                raise Killed
            return made

        return done

    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", dying("request", httpx.Client.send))
        patch.setattr(store, "write_text", dying("file", store.write_text))
        yield moments


def until_it_lives(monkeypatch: pytest.MonkeyPatch, what: Callable[[int], None]) -> int:
    """Run `what(n)` for each n until it is not killed any more; returns how many moments there are."""
    for moment in range(1000):
        with killed_at(monkeypatch, moment) as moments:
            try:
                what(moment)
            except Killed:
                continue
        return len(moments)
    raise AssertionError("it never ends")


def test_a_training_killed_at_any_moment_is_sent_made_and_paid_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[FineTuningServer, Path]] = []

    def once(moment: int) -> None:
        folder = tmp_path / str(moment)
        folder.mkdir()
        (folder / "prices.yaml").write_text(PRICES)
        seen.append((FineTuningServer(None).__enter__(), folder))
        trained(*seen[-1])

    moments = until_it_lives(monkeypatch, once)
    assert moments > 20
    for server, folder in seen:
        result = trained(server, folder)
        assert (len(server.jobs), len(server.arrived("POST", "/v1/files"))) == (1, 2)
        assert server.files == {}
        billed = (result.training_tokens or 0) * 1000 / 1e6
        assert json.loads((folder / "purse.json").read_text())["spent"] == pytest.approx(billed)
        server.__exit__()


PATHS = [
    ("POST", "/v1/files"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-0001"),
    ("GET", "/v1/models"),
]


@pytest.mark.parametrize("lost", PATHS, ids=lambda p: " ".join(p))
@pytest.mark.parametrize("how", ["hangs up", "half", "page", "500"])
def test_an_answer_that_is_lost_or_broken_makes_nothing_twice(
    how: str, lost: tuple[str, str], tmp_path: Path
) -> None:
    """Done as asked, but told by a broken connection, half a body, a page of HTML or a gateway's error."""
    with FineTuningServer(None, lose=[Lost(*lost, how=how)] * 2) as server:
        trained(server, tmp_path)
        assert (len(server.jobs), len(server.arrived("POST", "/v1/files"))) == (1, 2)
        assert server.files == {}


def test_a_job_made_twice_because_it_showed_late_is_cancelled_once(tmp_path: Path) -> None:
    """The answer is lost, and the list of jobs does not show the job until it was made again."""
    with FineTuningServer(None, lose=[Lost("POST", "/v1/fine_tuning/jobs")], late=1) as server:
        server.hold = threading.Event()
        with pytest.raises(Pending):
            trained(server, tmp_path, wait=0.0)
        states = [job.row["status"] for job in server.jobs.values()]
        assert len(states) == 2
        assert states.count("cancelled") == 1
        kept = json.loads((tmp_path / "artifact/job.json").read_text())["job"]
        assert server.jobs[kept].row["status"] != "cancelled"


def test_a_refused_job_leaves_no_file_and_takes_no_money(tmp_path: Path) -> None:
    with FineTuningServer(None) as server:
        with pytest.raises(UserError, match="not available for fine-tuning"):
            trained(server, tmp_path, model="no-such-model")
        assert len(server.arrived("POST", "/v1/files")) == 2
        assert server.files == {}
        assert guard(tmp_path).spent == 0.0


def test_a_file_that_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    with FineTuningServer(None, keeps_files=True) as server:
        result = trained(server, tmp_path)
        told = " ".join(result.remarks)
        for file in server.files:
            assert f"{file} could not be deleted" in told


def test_files_and_jobs_of_others_are_never_touched(tmp_path: Path) -> None:
    with FineTuningServer(None) as server:
        theirs = {"id": "file-theirs", "filename": "breakeven-of-somebody.jsonl", "bytes": 1}
        server.files["file-theirs"] = (theirs, b"{}")
        trained(server, tmp_path)
        assert list(server.files) == ["file-theirs"]
        assert not server.arrived("DELETE", "/v1/files/file-theirs")


def test_what_the_environment_says_of_an_account_at_openai_is_told_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, f"mine-{name}")
    with FineTuningServer(None) as server:
        trained(server, tmp_path)
        assert not [got for got in server.got if "mine-" in str(got.headers)]


def test_a_redirect_is_not_followed_with_examples_or_a_key(tmp_path: Path) -> None:
    with FineTuningServer(None) as elsewhere, FineTuningServer(None, moved=elsewhere.url) as server:
        with pytest.raises(UserError, match="redirects elsewhere"):
            trained(server, tmp_path)
        assert elsewhere.got == []


# --- what a job may cost ---------------------------------------------------------------------


def test_what_is_set_aside_is_more_than_any_tokenizer_makes_of_it(tmp_path: Path) -> None:
    with FineTuningServer(None) as server:
        limit = 2 * len(rows(pairs(12))) * 1000 / 1e6  # a token to a byte, two passes
        with pytest.raises(SpendingLimitReached):
            trained(server, tmp_path, guard(tmp_path, limit * 0.99))
        assert server.got == []
        trained(server, tmp_path, guard(tmp_path, limit * 1.01))


def test_a_provider_that_chooses_more_passes_than_the_limit_bears_is_stopped(tmp_path: Path) -> None:
    """ "auto" was counted as 8 passes over 12 examples; the job says 25."""
    with FineTuningServer(None, hold=threading.Event(), chooses=25) as server:
        size = len(rows(pairs(12)))
        purse = guard(tmp_path, 10 * size * 1000 / 1e6)
        with pytest.raises(SpendingLimitReached, match=r"25 passes and was cancelled.*spending limit"):
            trained(server, tmp_path, purse, epochs="auto")
        assert [job.row["status"] for job in server.jobs.values()] == ["cancelled"]
        assert purse.spent <= 10 * size * 1000 / 1e6


def test_a_failed_job_that_says_it_trained_is_paid_and_told(tmp_path: Path) -> None:
    with FineTuningServer(None, fails="the loss is not a number", trained_before=5000) as server:
        purse = guard(tmp_path)
        with pytest.raises(UserError, match=r"invalid_training_file, training_file.*trained 5,000 tokens"):
            trained(server, tmp_path, purse)
        assert purse.spent == pytest.approx(5.0)
        server.fails = ""
        result = trained(server, tmp_path, purse)
        assert "having trained 5,000 tokens that are not in this row" in " ".join(result.remarks)


def test_an_account_without_credit_is_told_at_once(tmp_path: Path) -> None:
    with FineTuningServer(None, broke=True) as server:
        with pytest.raises(UserError, match="no credit left"):
            trained(server, tmp_path)
        assert len(server.arrived("POST", "/v1/files")) == 1


def test_the_clock_of_a_server_does_not_cancel_a_job(tmp_path: Path) -> None:
    with FineTuningServer(None, clock=-90 * 24 * 3600) as server:
        assert trained(server, tmp_path, max_hours=1.0).model


def test_a_checkpoint_with_no_loss_at_all_is_the_best() -> None:
    """A loss of 0.0 is a loss."""
    from breakeven.baselines.trainers._job_result import best

    made: list[dict[str, Any]] = [
        {"model": "a", "step": 1, "valid_loss": 0.4},
        {"model": "b", "step": 2, "valid_loss": 0.0},
        {"model": "c", "step": 3, "valid_loss": None},
    ]
    assert best(made) == "b"
    assert best(made[2:]) is None


def test_the_best_checkpoint_without_validation_losses_is_said_to_be_the_last(tmp_path: Path) -> None:
    with FineTuningServer(None, judges=False) as server:
        result = trained(server, tmp_path, checkpoint="best")
        assert ":ckpt" not in result.model
        assert "no checkpoint has a validation loss" in " ".join(result.remarks)


# --- deployments -----------------------------------------------------------------------------


def deployment(server: Azure, folder: Path, purse: SpendGuard, name: str = "breakeven-1") -> Deployment:
    plan = Plan("s", "g", "r", name, server.base, hour="test/hour", control_url=server.origin,
                token_env="AZURE_TOKEN")  # fmt: skip
    record = Record(folder / "hosting.json")
    return Deployment(plan, record, book(folder), purse)


def swept(folder: Path) -> SpendGuard:
    """The next start of a run."""
    purse = guard(folder)
    deployments.sweep(folder, book(folder), lambda text: None, purse)
    return purse


def test_a_deployment_killed_at_any_moment_is_gone_after_the_next_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[Azure, Path]] = []

    def once(moment: int) -> None:
        folder = tmp_path / str(moment)
        folder.mkdir()
        (folder / "prices.yaml").write_text(PRICES)
        seen.append((Azure(None, slow=1).__enter__(), folder))
        made = deployment(*seen[-1], guard(folder))
        with monkeypatch.context() as patch:
            removes = Deployment._remove
            # whoever is dead deletes nothing on its way out
            patch.setattr(Deployment, "_remove", lambda self, unsure: None)
            made.ensure("cell/serve")
            patch.setattr(Deployment, "_remove", removes)
            made.delete()

    assert until_it_lives(monkeypatch, once) >= 8
    for server, folder in seen:
        purse = swept(folder)
        assert server.deployments == {}
        rows = store.read_json(folder / "hosting.json", [])
        assert all(row["deleted"] for row in rows)
        assert purse.spent in (0.0, 36.0)  # an hour that was begun, once
        server.__exit__()


def test_two_models_of_a_run_do_not_forget_each_others_deployments(tmp_path: Path) -> None:
    with Azure(None, keeps=403) as server:
        one, two = (deployment(server, tmp_path, guard(tmp_path), f"breakeven-{n}") for n in (1, 2))
        one.ensure("a/serve")
        one.delete()  # refused: it is still there
        two.ensure("b/serve")
        assert len(deployments.alarms(tmp_path, PriceBook.load())) == 2
        server.keeps = 0
        swept(tmp_path)
        assert server.deployments == {}


def test_a_deletion_that_was_only_promised_is_not_taken_for_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Azure(None, forgets=True) as server:
        made = deployment(server, tmp_path, guard(tmp_path))
        made.ensure("a/serve")
        made.delete()
        assert "IS STILL THERE AND COSTS 36 USD an hour" in capsys.readouterr().err
        assert server.deployments


def test_a_deployment_whose_making_was_never_told_is_looked_for_twice(tmp_path: Path) -> None:
    """PUT breaks off every time, and the deployment appears only after it was to be deleted."""
    with Azure(None, appears_late=True) as server:
        made = deployment(server, tmp_path, guard(tmp_path))
        with pytest.raises(UserError, match="no answer in time"):
            made.ensure("a/serve")
        assert server.deployments == {}
        assert server.most == 1


def test_every_hour_of_a_deployment_is_paid_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Azure(None) as server:
        purse = guard(tmp_path, 80.0)  # two hours at 36
        made = deployment(server, tmp_path, purse)
        made.ensure("a/serve")
        assert purse.spent == 36.0
        for hours, paid in ((0.9, 36.0), (0.99, 72.0), (1.5, 72.0)):
            monkeypatch.setattr(deployments, "seconds_of", lambda row, hours=hours: hours * 3600)
            made._looked = float("-inf")
            made.keep()
            assert purse.spent == paid
        monkeypatch.setattr(deployments, "seconds_of", lambda row: 2.0 * 3600)
        made._looked = float("-inf")
        with pytest.raises(SpendingLimitReached):
            made.keep()
        made.delete()
        assert purse.spent == 72.0
        assert server.deployments == {}


def test_no_deployment_is_made_that_the_limit_does_not_bear(tmp_path: Path) -> None:
    with Azure(None) as server:
        with pytest.raises(SpendingLimitReached):
            deployment(server, tmp_path, guard(tmp_path, 35.0)).ensure("a/serve")
        assert server.got == []


def test_a_deployment_is_given_up_while_its_token_can_still_delete_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.harness import _control

    with Azure(None) as server:
        made = deployment(server, tmp_path, guard(tmp_path))
        made.ensure("a/serve")
        monkeypatch.setattr(_control, "_seconds_left", lambda token: 200.0)
        made._looked = float("-inf")
        with pytest.raises(UserError, match="about to end"):
            made.keep()
        made.delete()
        assert server.deployments == {}


# --- a training as cells ask for it ----------------------------------------------------------

AZURE = {"subscription": "s", "resource_group": "g", "resource": "r", "token_env": "AZURE_TOKEN",
         "hour": "test/hour"}  # fmt: skip


class Cell:
    """One cell of a run: asks for the training that all its like share."""

    def __init__(self, server: FineTuningServer, folder: Path, limit: float | None = None, **engine: Any):
        self.server, self.folder, self.purse = server, folder, guard(folder, limit)
        settings = {"price_as": "test/tiny", "allow_unpriced": True, **engine}
        if isinstance(server, Azure):
            settings["auth"] = "api-key"
        self.engine = openai(server.base, base_url=server.url, api_key_env="TEST_KEY", **settings)
        self.engine.bill_to(self.purse, book(folder))

    def tune(self, **weights: Any) -> HostedModel:
        books, name = Ledger(), "openai"
        if isinstance(self.server, Azure):
            name = "azure"
            weights["deployment"] = {"control_url": self.server.origin, **AZURE, **weights["deployment"]}
        made = _weights.make_trainer(WeightSettings(trainer=name, epochs=2, wait=60.0, **weights))[0]
        assert isinstance(made, HostedTrainer)
        services = Services(
            seed=0,
            ledger=books,
            scratch=self.folder,
            artifacts=store.ArtifactStore(self.folder / "artifacts", books),
        )
        session = Session(self.engine, Journal(None), books, "search")
        return HostedModel.read(_hosted.tune(made, name, pairs(12), pairs(3), session, services))


def test_a_job_that_failed_is_not_made_again_for_the_next_cell(tmp_path: Path) -> None:
    with FineTuningServer(None, fails="line 7 has no answer") as server:
        cell = Cell(server, tmp_path)
        for _ in range(2):
            with pytest.raises(UserError, match="line 7 has no answer"):
                cell.tune()
        assert len(server.jobs) == 1
        server.fails = ""
        assert Cell(server, tmp_path).tune().model  # the run resumed
        assert len(server.jobs) == 2


def test_where_it_is_deployed_and_what_it_costs_can_be_changed_after_the_training(tmp_path: Path) -> None:
    with Azure(None) as server:
        first = Cell(server, tmp_path).tune(deployment={"resource": "wrong"}, price_as="test/tiny")
        then = Cell(server, tmp_path).tune(deployment={"sku": "GlobalStandard"}, price_as="test/ft-tiny")
        assert len(server.jobs) == 1
        assert first.deployment is not None
        assert then.deployment is not None
        changed = {k for k, v in then.deployment.items() if first.deployment[k] != v}
        assert changed == {"resource", "sku"}
        assert then.price_as == "test/ft-tiny"


UNPRICED = [
    ("training_tokens", "nobody knows what training"),
    ("hosting_hours", "nobody knows what an hour of the deployment"),
]


@pytest.mark.parametrize(("kind", "words"), UNPRICED)
@pytest.mark.parametrize("limit", [None, 50.0])
def test_nothing_without_a_price_is_bought_under_a_limit(
    limit: float | None, kind: str, words: str, tmp_path: Path
) -> None:
    """Not even with allow_unpriced: the limit could not be kept to."""
    listed = (tmp_path / "prices.yaml").read_text().split("\n")
    first = listed.index(f"{kind}:")
    (tmp_path / "prices.yaml").write_text("\n".join(listed[:first] + listed[first + 2 :]))
    with Azure(None) as server:
        if limit is None:
            assert Cell(server, tmp_path).tune(deployment={}).model
            return
        with pytest.raises(UserError, match=f"{words}.*leave limits.spend out"):
            Cell(server, tmp_path, limit).tune(deployment={})
        assert server.got == []


def test_a_model_that_must_be_deployed_is_not_trained_to_be_asked_in_a_batch(tmp_path: Path) -> None:
    with Azure(None) as server:
        with pytest.raises(NotApplicable, match="billed all the while"):
            Cell(server, tmp_path, batch=True).tune(deployment={})
        assert server.got == []

"""Fine-tuning at Azure: its own statuses, and a deployment that is there while it is asked and no longer."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from fine_tuning_server import KEY, TOKEN, Azure, FineTuningServer
from hosted_world import cell, ledger, read, state, suite

pytest.importorskip("openai")

Start = Callable[..., FineTuningServer]
Call = Callable[..., Said]
CONTROL = r"/subscriptions/s/resourceGroups/g/providers/[\w.]+/accounts/r/deployments/[\w-]+\?.*"


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL does."""


def run(breakeven: Call, path: Path) -> Said:
    return breakeven("run", path, "--name", "r", "--prices", "prices.yaml")


def hosting(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read(folder / "runs/r/hosting.json")
    return rows


def test_a_tuned_model_is_deployed_asked_by_its_deployment_and_deleted(
    tuning: Start, tiny_engine: Any, hosted: Path, breakeven: Call
) -> None:
    server: Any = tuning(Azure, engine=tiny_engine, slow=2)
    said = run(breakeven, suite(server, hosted))
    assert said.code == 0, said.out + said.err
    (put,) = server.arrived("PUT", CONTROL)
    tuned = read(cell(hosted) / "training.json")["model"]
    assert put.body == {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": tuned, "version": "1"}},
    }
    name = put.path.partition("?")[0].rpartition("/")[2]
    chats = server.arrived("POST", "/openai/v1/chat/completions")
    assert {g.body["model"] for g in chats} == {server.base, name}
    assert {g.headers["api-key"] for g in chats} == {KEY}
    assert server.deployments == {}
    assert [row["deleted"] is not None for row in hosting(hosted)] == [True]


def test_azures_own_spellings_are_understood(tuning: Start, hosted: Path, breakeven: Call) -> None:
    """`pending`, -1 for every hyper-parameter, null for files and organization."""
    server: Any = tuning(Azure, queued=3)
    assert run(breakeven, suite(server, hosted)).code == 0
    training = read(cell(hosted) / "training.json")
    assert training["epochs"] is None  # unknown, not -1
    assert training["training_tokens"] > 0
    (created,) = server.arrived("POST", "/openai/v1/fine_tuning/jobs")
    assert created.body["trainingType"] == 1
    assert "metadata" not in created.body
    assert len(created.body["suffix"]) <= 18


def test_the_hours_of_a_deployment_are_booked_and_priced(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    run(breakeven, suite(tuning(Azure, slow=3), hosted))
    (entry,) = ledger(hosted).select("host", "seconds")
    (row,) = hosting(hosted)
    assert entry.hardware == "test/hour"
    assert entry.amount.value is not None
    assert entry.amount.value > 0
    assert read(hosted / "runs/r/run.json")["price_book"]["hosting_hours"]["test/hour"]["price"] == 36.0
    text = breakeven("report", "runs/r", "-o", "-").out
    assert "the hosted deployment" in text
    assert "its deployment existed for" in text
    assert "26,280" in text  # 730 h a month at 36 USD: without it, tuning would look far too cheap
    assert row["owner"].startswith("weather--tuned")


def test_a_deployment_is_written_down_before_it_is_made(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server: Any = tuning(Azure)
    seen: list[Any] = []
    server.before_put = lambda: seen.extend(hosting(hosted))
    run(breakeven, suite(server, hosted))
    assert [(row["plan"]["resource"], row["deleted"]) for row in seen] == [("r", None)]


def test_a_deployment_that_fails_is_deleted(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server: Any = tuning(Azure, breaks=True)
    run(breakeven, suite(server, hosted))
    assert state(hosted)[0] == "failed"
    assert "failed" in state(hosted)[1]
    assert server.deployments == {}
    assert server.arrived("DELETE", CONTROL)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("the scorer broke")])
def test_a_run_that_breaks_off_deletes_its_deployment(
    error: Any, tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.baselines import levers

    server: Any = tuning(Azure)

    def broken(self: Any, completion: Any, prompt: Any) -> Any:
        assert server.deployments
        raise error

    path = suite(server, hosted)
    rows = read(path)
    path.write_text(json.dumps({**rows, "strategies": {"tuned": rows["strategies"]["tuned"]}}))
    monkeypatch.setattr(levers.LeversPredictor, "_prediction", broken)
    said = run(breakeven, path)
    assert said.code == (130 if error is KeyboardInterrupt else 1)
    assert server.deployments == {}


def test_what_a_killed_run_left_deployed_is_deleted_at_its_next_start(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.harness import deployments

    server: Any = tuning(Azure)

    def dies(*_: Any) -> None:
        raise Killed

    path = suite(server, hosted)
    with monkeypatch.context() as patch:
        patch.setattr(deployments.Deployment, "_wait", dies)
        patch.setattr(deployments.Deployment, "_remove", lambda self, unsure: None)
        with pytest.raises(Killed):
            run(breakeven, path)
    assert len(server.deployments) == 1
    said = breakeven("run", "--resume", hosted / "runs/r")
    assert said.code == 0, said.out + said.err
    assert "was left by a stopped run and is deleted now" in said.out
    assert (server.deployments, server.most) == ({}, 1)
    assert [row["deleted"] is not None for row in hosting(hosted)] == [True, True]


def test_a_deployment_that_cannot_be_deleted_is_shouted_everywhere(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server: Any = tuning(Azure, keeps=409)
    said = run(breakeven, suite(server, hosted))
    assert said.code == 1
    shout = "IS STILL THERE AND COSTS 36 USD an hour"
    assert shout in said.err
    assert shout in " ".join(said.out.split())
    assert shout in breakeven("report", "runs/r", "-o", "-").out
    assert shout in breakeven("report", "runs/r", "--format", "md", "-o", "-").out
    server.keeps = 0
    assert breakeven("run", "--resume", hosted / "runs/r").code == 0
    assert server.deployments == {}
    assert shout not in breakeven("report", "runs/r", "-o", "-").out


def test_without_a_token_to_deploy_with_nothing_is_trained(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_TOKEN")
    server: Any = tuning(Azure)
    run(breakeven, suite(server, hosted))
    assert "AZURE_TOKEN is not set" in state(hosted)[1]
    assert not server.arrived("POST", "/openai/v1/files")


def test_a_token_that_ends_too_soon_to_delete_with_is_refused(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 240}).encode()).decode().rstrip("=")
    monkeypatch.setenv("AZURE_TOKEN", f"head.{claims}.signature")
    server: Any = tuning(Azure)
    run(breakeven, suite(server, hosted))
    assert "ends in 4 minutes" in state(hosted)[1]
    assert not server.arrived("POST", "/openai/v1/files")


def test_neither_key_nor_token_is_ever_written(tuning: Start, hosted: Path, breakeven: Call) -> None:
    run(breakeven, suite(tuning(Azure), hosted))
    written = [p for p in (hosted / "runs").rglob("*") if p.is_file()]
    for secret in (KEY, TOKEN):
        assert not [p for p in written if secret.encode() in p.read_bytes()]


def test_a_control_plane_that_is_not_allowed_is_not_asked(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server: Any = tuning(Azure)
    where = {"subscription": "s", "resource_group": "g", "resource": "r", "token_env": "AZURE_TOKEN"}
    run(breakeven, suite(server, hosted, weights={"deployment": where}, allow_hosts=["127.0.0.1"]))
    assert "management.azure.com, which the suite does not allow" in state(hosted)[1]
    assert not server.arrived("POST", "/openai/v1/files")

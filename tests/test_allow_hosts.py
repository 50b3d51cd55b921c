"""`allow_hosts`: what it lets through, and that nothing else leaves."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Said
from openai_server import OpenAIServer
from tiny_suite import write_suite

from breakeven.harness import egress
from breakeven.harness.errors import UserError


@pytest.mark.parametrize(
    ("host", "allowed", "passes"),
    [
        ("api.openai.com", None, True),
        ("api.openai.com", ["api.openai.com"], True),
        ("API.openai.com:443", ["api.openai.com"], True),
        ("api.openai.com", ["api.openai.com:8443"], False),
        ("127.0.0.1:8000", ["127.0.0.1:8000"], True),
        ("127.0.0.1:8001", ["127.0.0.1:8000"], False),
        ("mine.openai.azure.com", ["*.openai.azure.com"], True),
        ("openai.azure.com.evil.example", ["*.openai.azure.com"], False),
        ("evilopenai.azure.com", ["*.openai.azure.com"], False),
        ("::1", ["::1"], True),
        ("api.openai.com", [], False),
        ("api.openai.com", ["api.openai.com:443"], True),
        ("api.openai.com", ["API.OpenAI.com."], True),
        ("api.openai.com.:443", ["api.openai.com"], True),
        ("[::1]:8000", ["::1"], True),
        ("[::1]:8000", ["[::1]:8000"], True),
        ("[::1]:8001", ["[::1]:8000"], False),
        ("[::1]:8000", ["::1:8000"], False),  # that is another address
        ("[0:0::1]:8000", ["::1"], True),
        ("münchen.example", ["xn--mnchen-3ya.example"], True),
        ("example.org", ["*."], False),
        ("example.org", ["*.example.org"], False),
    ],
)
def test_a_host_passes_if_it_is_listed(host: str, allowed: list[str] | None, passes: bool) -> None:
    assert egress.permitted(host, allowed) is passes


def test_no_library_reaches_a_host_that_is_not_listed() -> None:
    with egress.only(["api.openai.com"]), pytest.raises(UserError, match=r"example\.org.*does not allow"):
        urllib.request.urlopen("http://example.org/", timeout=1)


def test_an_address_in_numbers_is_a_host_too() -> None:
    with egress.only([]), pytest.raises(UserError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)


def test_no_other_way_of_looking_a_name_up_is_open() -> None:
    with egress.only(["api.openai.com"]), pytest.raises(UserError, match=r"example\.org"):
        socket.gethostbyname("example.org")


def test_an_address_in_numbers_cannot_be_connected_to_without_a_lookup() -> None:
    """As event loops do, where only addresses are listed."""
    for allowed in ([], ["127.0.0.1"]):
        with egress.only(allowed), socket.socket() as made, pytest.raises(UserError, match=r"192\.0\.2\.1"):
            made.connect(("192.0.2.1", 80))


def test_a_server_of_ones_own_at_an_ipv6_address_is_named_with_its_port() -> None:
    from breakeven.harness.engines.openai import openai

    engine = openai("small", base_url="http://[::1]:8000/v1", api_key_env="", allow_unpriced=True)
    assert engine.describe().data_goes_to == "[::1]:8000"
    engine.stay_within(["::1"])
    with pytest.raises(UserError, match="does not allow"):
        engine.stay_within(["[::1]:9000"])


def test_outside_of_a_run_nothing_is_watched() -> None:
    with egress.only([]):
        pass
    assert socket.getaddrinfo("127.0.0.1", 80)


def suite(folder: Path, server: OpenAIServer, hosts: list[str]) -> Path:
    model = {"model": "small", "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY"}
    return write_suite(
        folder,
        Path("unused"),
        models={"api": model},
        strategies={"zero-shot": {}},
        limits={"allow_unpriced": True},
        allow_hosts=hosts,
    )


def test_a_model_at_another_host_is_refused_before_anything_is_written_or_sent(
    serve: Callable[..., OpenAIServer],
    tmp_path: Path,
    breakeven: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", "k")
    server = serve()
    said = breakeven("run", suite(tmp_path, server, ["api.openai.com"]), "--name", "r")
    assert said.code == 2
    assert "allow_hosts" in said.err
    assert server.got == []
    assert not (tmp_path / "runs/r/run.json").exists()


def test_a_model_at_a_listed_host_is_asked(
    serve: Callable[..., OpenAIServer],
    tmp_path: Path,
    breakeven: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", "k")
    server = serve()
    said = breakeven("run", suite(tmp_path, server, ["127.0.0.1"]), "--name", "r")
    assert said.code == 0, said.out + said.err
    assert server.got
    assert json.loads((tmp_path / "runs/r/cells/weather--zero-shot/scores.json").read_text())


def test_an_address_with_a_path_is_no_host(
    tmp_path: Path, serve: Callable[..., OpenAIServer], breakeven: Callable[..., Said]
) -> None:
    said = breakeven("run", suite(tmp_path, serve(), ["https://api.openai.com/v1"]))
    assert said.code == 2
    assert "is no host" in said.err

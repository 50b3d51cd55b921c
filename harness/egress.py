"""`allow_hosts`: the hosts a run may send anything to. Everything else is refused before it leaves.

Twice over: an engine or trainer that names another host is refused when it is made, with the line of the
suite to change; and while a run lasts, a name that is not allowed is not even looked up, whichever library
asks (a data set, a metric, a proxy).
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from breakeven.harness.errors import UserError

FIELD = "allow_hosts"
_allowed: tuple[str, ...] | None = None
_watching = False


def permitted(host: str, allowed: Sequence[str] | None) -> bool:
    """Whether `host` ("api.openai.com", "127.0.0.1:8000") is in the list; an entry without a port means
    all ports.

    None allows every host. "*.example.org" allows the hosts below example.org.
    """
    if allowed is None:
        return True
    name = _bare(host)
    return any(
        host.lower() == entry.lower()
        or name == entry.lower()
        or (entry.startswith("*.") and name.endswith(entry[1:].lower()))
        for entry in allowed
    )


def check(host: str, allowed: Sequence[str] | None, who: str) -> None:
    """Raises UserError when `who` would send something to a host that the suite does not allow."""
    if not permitted(host, allowed):
        listed = ", ".join(allowed or ()) or "none"
        raise UserError(
            f"{who} would send data to {host}, which the suite does not allow",
            field=FIELD,
            hint=f"allowed: {listed}; add the host if that is what you want",
        )


@contextlib.contextmanager
def only(allowed: Sequence[str] | None) -> Iterator[None]:
    """While this lasts, no host outside the list is looked up by this process; None watches nothing.

    Code in other languages that resolves names by itself is not seen.
    """
    global _allowed, _watching
    if allowed is None:
        yield
        return
    if not _watching:
        sys.addaudithook(_watch)  # cannot be taken away again: it does nothing outside of `only`
        _watching = True
    before, _allowed = _allowed, tuple(allowed)
    try:
        yield
    finally:
        _allowed = before


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None or event != "socket.getaddrinfo":
        return
    host, port = arguments[0], arguments[1]
    if host is None:  # an address to listen on
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    if not (permitted(name, _allowed) or permitted(f"{name}:{port}", _allowed)):
        check(name, _allowed, "something in this run")


def _bare(host: str) -> str:
    """The host without its port, in lower case."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.rpartition(":")[0].strip("[]").lower() if ":" in host else host.lower()

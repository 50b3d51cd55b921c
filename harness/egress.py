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
#: Events of Python's `socket` that look a name up.
_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
#: Ports that an address leaves out.
_USUAL = (80, 443)


def permitted(host: str, allowed: Sequence[str] | None) -> bool:
    """Whether `host` ("api.openai.com", "127.0.0.1:8000", "[::1]:8000") is in the list; an entry without a
    port means all ports.

    None allows every host. "*.example.org" allows the hosts below example.org. A host without a port is
    asked at the usual one of its scheme.
    """
    if allowed is None:
        return True
    name, port = _parts(host)
    return any(_fits(name, port, *_parts(entry)) for entry in allowed)


def address(host: str, port: int | None) -> str:
    """A host with its port, where it has one of its own; an IPv6 address then in brackets."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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

    Code in other languages that resolves names by itself is not seen, nor is a process that this one starts.
    Where the list holds addresses in numbers only, connections to others are refused as well.
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
    if _allowed is None:
        return
    if event in _LOOKUPS:
        host = arguments[0]
        if host is None:  # an address to listen on
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        _refuse(name, arguments[1] if len(arguments) > 1 else None)
    elif event in ("socket.connect", "socket.sendto") and not any(_is_name(entry) for entry in _allowed):
        address = arguments[1]
        if isinstance(address, tuple) and len(address) >= 2:  # not a socket of this machine's file system
            _refuse(str(address[0]), address[1])


def _refuse(name: str, port: Any) -> None:
    if not permitted(address(name, port), _allowed):
        # named without its port, where the port does not matter
        who, bare = "something in this run", permitted(name, _allowed)
        check(address(name, port) if bare else name, _allowed, who)


def _fits(name: str, port: str, entry: str, entry_port: str) -> bool:
    if entry_port and entry_port != port and not (port == "" and entry_port in map(str, _USUAL)):
        return False
    return name == entry or (entry.startswith("*.") and len(entry) > 2 and name.endswith(entry[1:]))


def _is_name(entry: str) -> bool:
    """Whether an entry is a name, which may stand for any address, and no address in numbers."""
    try:
        ipaddress.ip_address(_parts(entry)[0])
    except ValueError:
        return True
    return False


def _parts(host: str) -> tuple[str, str]:
    """(name, port or ""): in lower case, without brackets or a last dot, as it is looked up."""
    bare = host.strip().rstrip(".")
    if bare.startswith("["):
        name, _, rest = bare[1:].partition("]")
        return _bare(name), rest.removeprefix(":")
    if bare.count(":") == 1:
        name, _, port = bare.partition(":")
        return _bare(name.rstrip(".")), port
    return _bare(bare), ""


def _bare(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return name.encode("idna").decode().lower() if not name.isascii() else name.lower()
    except UnicodeError:
        return name.lower()

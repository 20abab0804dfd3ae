"""What holds for every test: nothing leaves this machine, and our own code never blocks the event loop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

# a busy machine is not a failure: examples are judged by what they find, never by how long they took
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

_LOCAL_NAMES = frozenset({"", "localhost", "ip6-localhost", "localhost.localdomain"})
_REAL_CONNECT = socket.socket.connect
_REAL_CONNECT_EX = socket.socket.connect_ex
_REAL_GETADDRINFO = socket.getaddrinfo


class LeftTheMachineError(AssertionError):
    """A test tried to reach something that is not this machine."""


def _is_local(host: Any) -> bool:
    if host is None:
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in _LOCAL_NAMES or name == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
        raise LeftTheMachineError(f"a test tried to connect to {address[0]}")


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    """Fails every connection and every name lookup that is not loopback."""

    def connect(self: socket.socket, address: Any) -> None:
        _check(self.family, address)
        return _REAL_CONNECT(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _check(self.family, address)
        return _REAL_CONNECT_EX(self, address)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            raise LeftTheMachineError(f"a test tried to look up {host}")
        return _REAL_GETADDRINFO(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture
def never_blocks() -> Iterator[BlockBuster]:
    """Fails when code of core/providers or core/remote blocks the running event loop (files, sleeps, sockets)."""
    with blockbuster_ctx(["core.providers", "core.remote"]) as guard:
        yield guard

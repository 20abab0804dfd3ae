"""A provider's API as recorded: a real HTTP server on loopback that answers from a script.

Its one rule: it knows nothing of the client; it keeps what came so that a test can look.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

OFFER: dict[str, Any] = {
    "id": 21874411, "ask_contract_id": 21874411, "machine_id": 30114, "host_id": 92240, "gpu_name": "RTX 4090",
    "num_gpus": 2, "gpu_ram": 24564, "gpu_total_ram": 49128, "gpu_frac": 0.5, "cpu_cores": 64,
    "cpu_cores_effective": 16.0, "cpu_ram": 257680, "disk_space": 412.3, "disk_bw": 3100.5, "inet_up": 811.4,
    "inet_down": 902.7, "inet_up_cost": 0.004, "inet_down_cost": 0.003, "dph_base": 0.3607, "dph_total": 0.3718,
    "min_bid": 0.1607, "storage_cost": 0.2, "is_bid": False, "reliability2": 0.9971, "reliability": 0.9971,
    "duration": 1814400.0, "direct_port_count": 250, "cuda_max_good": 12.8, "driver_version": "570.86.15",
    "verification": "verified", "rentable": True, "rented": False, "geolocation": "Quebec, CA", "hosting_type": 0,
}  # fmt: skip
INSTANCE: dict[str, Any] = {
    "id": 31200457, "machine_id": 30114, "host_id": 92240, "label": "understudy/me/t1", "actual_status": "running",
    "intended_status": "running", "cur_state": "running", "next_state": "running",
    "status_msg": "success, running x/ssh", "is_bid": False, "gpu_name": "RTX 4090", "num_gpus": 1, "gpu_ram": 24564,
    "dph_total": 0.42, "storage_total_cost": 0.0111, "geolocation": "Texas, US", "public_ipaddr": " 203.0.113.9\n",
    "ports": {"22/tcp": [{"HostIp": "203.0.113.9", "HostPort": "41022"}]},
    "ssh_host": "ssh5.vast.ai", "ssh_port": 10456, "image_runtype": "ssh_direc ssh_proxy",
    "driver_version": "570.86.15", "cuda_max_good": 12.8, "disk_space": 40,
    "disk_bw": 3100.5, "inet_down": 902.7, "start_date": 1789000000.1, "extra_env": [["A", "B"]],
}  # fmt: skip
PAGE = "<html><head><title>502</title></head><body>Bad gateway</body></html>"


@dataclass
class Reply:
    """`drop`: close without answering; `delay_s`: answer late."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    delay_s: float = 0.0


@dataclass
class Call:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any


class Api:
    """A real HTTP/1.1 server. `script[path]` is a list of replies; the last one stays."""

    def __init__(self) -> None:
        self.script: dict[str, list[Reply]] = {}
        self.calls: list[Call] = []
        self.url = ""

    def on(self, path: str, *replies: Reply) -> None:
        self.script[path] = list(replies)

    def sent(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        self.calls.append(Call(method, path, query, headers, json.loads(data) if data else None))
        replies = self.script.get(path, [Reply(404, {"success": False, "error": "not_found", "msg": "no route"})])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        await asyncio.sleep(reply.delay_s)
        if reply.drop:
            return False
        is_text = isinstance(reply.body, str)
        content = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        kind = (
            "text/html" if is_text and reply.body.startswith("<") else "text/plain" if is_text else "application/json"
        )
        out = {"Content-Type": kind, "Content-Length": str(len(content)), **reply.headers}
        writer.write(f"HTTP/1.1 {reply.status} X\r\n".encode())
        writer.write("".join(f"{k}: {v}\r\n" for k, v in out.items()).encode() + b"\r\n" + content)
        await writer.drain()
        return True


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[Api]:
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield api
    finally:
        server.close()

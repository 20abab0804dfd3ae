"""Hosts that are not what they advertise: each lie is found on the real machine, refused, and remembered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from core.domain import api
from core.domain.machines import Machine
from core.domain.workspaces import UpSpec
from tests.engine.running_engine import RunningEngine, fresh

REASONS = {
    "gpu-count": "GPUs, .* were advertised|GPUs do not work|GPU",
    "vram": "MiB, .* were advertised",
    "gpu-model": "GPU is a .* was advertised",
    "driver": "driver is",
    "cuda": "CUDA",
    "disk-space": "disk has",
    "disk-speed": "disk writes",
    "network-speed": "network takes",
    "oci-error": "failed to start it",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The shipped engine over a lab with real machines, and the network judged as it is by default."""
    running = RunningEngine(
        tmp_path_factory.mktemp("l"), quick=False, lab_args=("--pacing", "off", "--boot-s", "0.5"), judge_network=True
    )
    try:
        yield running.open()
    finally:
        running.close()


def first_machine(machines: list[Machine], workspace: str) -> Machine:
    return min((m for m in machines if m.workspace == workspace), key=lambda m: m.asked_at or 0.0)


async def test_every_lie_is_refused_with_what_finding_out_cost(engine: RunningEngine) -> None:
    liars = {str(each["machine_id"]): each["lie"] for each in engine.lab.control("GET", "/lab/truth")["liars"]}
    offers = {o.machine_ref: o for o in (await engine.client.offers(api.OfferFilter(kind="on-demand"))).offers}
    asked = {lie: fresh() for ref, lie in liars.items() if ref in offers and lie in REASONS}
    assert set(asked) == set(REASONS), "the world holds a host with each of these lies"
    for ref, lie in liars.items():
        if lie in asked:
            offer = offers[ref]
            spec = UpSpec(gpu=offer.gpu, count=offer.gpu_count, offer=offer.id, disk_gb=16.0)
            await engine.client.up(api.UpIntent(operation=f"up-{asked[lie]}", name=asked[lie], spec=spec))
    await asyncio.gather(*(engine.ended(f"up-{name}") for name in asked.values()))
    refused = [f for f in await engine.facts() if f.kind == "machine_refused"]
    for ref, lie in liars.items():
        if lie in asked:
            machine = first_machine(list((await engine.state()).machines.values()), asked[lie])
            assert machine.machine_ref == ref
            assert machine.state in ("destroying", "destroyed")
            (fact,) = [f for f in refused if f.machine == machine.id]
            assert pytest.approx(0.0, abs=1.0) == fact.detail["cost_usd"]
            assert_reason(lie, fact.detail["reason"])
            host = await engine.client.host("vast", machine.host_id)
            assert host.refused >= 1
            assert host.last_reason


def assert_reason(lie: str, reason: str) -> None:
    assert re.search(REASONS[lie], reason), (lie, reason)

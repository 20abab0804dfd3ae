"""Operations: what takes several steps and survives kill -9; here only how one reads. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

OperationState = Literal["running", "done", "failed", "cancelled"]
StepState = Literal["running", "done", "failed"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the timeline. A step that ran again after a crash keeps its row and counts `attempt`."""

    name: str
    state: StepState
    attempt: int
    started_at: float
    took_s: float | None = None
    detail: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`order`: what it was asked with, so that it can be started again by whoever finds it running and unstarted."""

    id: str
    kind: str
    state: OperationState
    started_at: float
    workspace: str | None = None
    machine: str | None = None
    actor: str = ""
    ended_at: float | None = None
    reason: str | None = None
    result: dict[str, Any] = {}
    steps: tuple[Step, ...] = ()
    order: dict[str, Any] = {}


def with_step(operation: Operation, step: Step) -> Operation:
    """The operation with this step added, or put in the place of its last running step of the same name."""
    steps = list(operation.steps)
    for i in range(len(steps) - 1, -1, -1):
        if steps[i].name == step.name and steps[i].state == "running":
            steps[i] = step
            break
    else:
        steps.append(step)
    return msgspec.structs.replace(operation, steps=tuple(steps))

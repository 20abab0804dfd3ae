"""Everything that can go wrong, by what the caller can do about it.

UnderstudyError(message, *, hint)      hint: what the operator can do, one sentence
├ ConfigError              the configuration is wrong
├ NotFoundError            no such workspace, machine, offer or operation here
├ IntentRefused            budget, policy, role, wrong state, not confirmed
├ EngineError              the engine is gone, or of another version
├ ProviderError(provider, operation)
│  ├ AuthRefused           the key is wrong, or lacks a permission
│  ├ NoCapacity(zone, left_behind)   gone, outbid or not enough; `left_behind`: a contract the refusal left, to destroy
│  ├ QuotaReached          the account's own limit or credit
│  ├ RateLimited(retry_after_s)
│  ├ MachineNotFound       the provider knows no such machine or offer
│  ├ Unavailable(outcome_unknown)    time-out, 5xx, no network: a call that changes things may have taken effect
│  └ Unexpected(outcome_unknown)     an answer we do not understand
├ MachineError(machine_id)
│  ├ Unreachable           no SSH
│  ├ HostKeyChanged        another machine answers at this address: everything on it stops
│  ├ CommandFailed(argv, exit_status, stderr_tail)
│  ├ Refused               the machine is not what was advertised
│  └ AgentMismatch         the agent does not speak our protocol, or broke its limits
└ StoreError               the home's database cannot be read or written
"""

from __future__ import annotations

from typing import ClassVar


class UnderstudyError(Exception):
    """The root: `str(error)` is one sentence, `hint` is what the operator can do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def kind(self) -> str:
        return type(self).__name__


class ConfigError(UnderstudyError):
    exit_code = 2


class NotFoundError(UnderstudyError):
    exit_code = 3


class IntentRefused(UnderstudyError):
    exit_code = 4


class EngineError(UnderstudyError):
    exit_code = 5


class StoreError(UnderstudyError):
    exit_code = 1


class ProviderError(UnderstudyError):
    exit_code = 5

    def __init__(self, message: str, *, provider: str, operation: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.provider = provider
        self.operation = operation

    @property
    def outcome_unknown(self) -> bool:
        """True when a call that changes something may have taken effect in spite of this error."""
        return False


class AuthRefused(ProviderError):
    pass


class NoCapacity(ProviderError):
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        operation: str,
        hint: str = "",
        zone: str | None = None,
        left_behind: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, operation=operation, hint=hint)
        self.zone = zone
        self.left_behind = left_behind


class QuotaReached(ProviderError):
    exit_code = 4


class RateLimited(ProviderError):
    def __init__(
        self, message: str, *, provider: str, operation: str, retry_after_s: float | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, provider=provider, operation=operation, hint=hint)
        self.retry_after_s = retry_after_s


class MachineNotFound(ProviderError):
    exit_code = 3


class _Unclear(ProviderError):
    """Base of the two errors after which the provider may have acted."""

    def __init__(
        self, message: str, *, provider: str, operation: str, hint: str = "", outcome_unknown: bool = True
    ) -> None:
        super().__init__(message, provider=provider, operation=operation, hint=hint)
        self._outcome_unknown = outcome_unknown

    @property
    def outcome_unknown(self) -> bool:
        return self._outcome_unknown


class Unavailable(_Unclear):
    pass


class Unexpected(_Unclear):
    pass


class MachineError(UnderstudyError):
    exit_code = 5

    def __init__(self, message: str, *, machine_id: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.machine_id = machine_id


class Unreachable(MachineError):
    pass


class HostKeyChanged(MachineError):
    pass


class CommandFailed(MachineError):
    exit_code = 1

    def __init__(
        self, message: str, *, machine_id: str, argv: str, exit_status: int, stderr_tail: str, hint: str = ""
    ) -> None:
        super().__init__(message, machine_id=machine_id, hint=hint)
        self.argv = argv
        self.exit_status = exit_status
        self.stderr_tail = stderr_tail


class Refused(MachineError):
    exit_code = 1


class AgentMismatch(MachineError):
    pass


def all_kinds() -> dict[str, type[UnderstudyError]]:
    """Every leaf and branch by its name, so that an error that crossed a socket becomes itself again."""
    found: dict[str, type[UnderstudyError]] = {}
    todo: list[type[UnderstudyError]] = [UnderstudyError]
    while todo:
        one = todo.pop()
        found[one.__name__] = one
        todo.extend(one.__subclasses__())
    return found

"""NVIDIA's management library by ctypes: the figures without a package and without a process per second.

One rule: what a driver does not say is None. Function names, structures and codes: NVML API reference, stable ABI.
"""

from __future__ import annotations

import ctypes

NOT_FOUND, GPU_IS_LOST, INSUFFICIENT_SIZE = 6, 15, 7
TEMPERATURE_GPU = 0
CLOCK_SM = 1
MAX_PROCESSES = 64


class Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class ProcessInfo(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


UNKNOWN_MEMORY = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE


class NvmlError(OSError):
    """The library is not there, or refuses a call that must work."""


class Nvml:
    """An initialised library. Raises NvmlError when there is none or it does not start."""

    def __init__(self, library: str = "libnvidia-ml.so.1") -> None:
        try:
            self._lib = ctypes.CDLL(library)
        except OSError as error:
            raise NvmlError(f"no NVML library: {error}") from error
        if self._call("nvmlInitWithFlags", ctypes.c_uint(0)) != 0:
            raise NvmlError("NVML does not start")
        count = ctypes.c_uint()
        if self._call("nvmlDeviceGetCount_v2", ctypes.byref(count)) != 0 or count.value == 0:
            raise NvmlError("NVML sees no GPU")
        self.count = min(64, count.value)
        self._handles = [self._handle(index) for index in range(self.count)]
        self._names = [self._text(index, "nvmlDeviceGetName") for index in range(self.count)]
        self._uuids = [self._text(index, "nvmlDeviceGetUUID") for index in range(self.count)]

    def driver(self) -> str | None:
        buffer = ctypes.create_string_buffer(96)
        failed = self._call("nvmlSystemGetDriverVersion", buffer, ctypes.c_uint(96))
        return None if failed else buffer.value.decode("utf-8", "replace")

    def cuda(self) -> str | None:
        number = ctypes.c_int()
        if self._call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number)) != 0:
            return None
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def row(self, index: int) -> tuple[list[object], str | None]:
        """One GPU in the order of report.GPU_FIELDS, and what is wrong with it."""
        use, memory = Utilization(), Memory()
        failed = self._ask(index, "nvmlDeviceGetMemoryInfo", ctypes.byref(memory))
        no_use = self._ask(index, "nvmlDeviceGetUtilizationRates", ctypes.byref(use))
        state = self._uint(index, "nvmlDeviceGetPerformanceState")
        problem = f"GPU {index} has fallen off the bus" if GPU_IS_LOST in (failed, no_use) else None
        row: list[object] = [
            index,
            self._uuids[index],
            self._names[index],
            None if no_use else float(use.gpu),
            None if failed else round(memory.used / 1048576.0, 1),
            None if failed else round(memory.total / 1048576.0, 1),
            _float(self._uint(index, "nvmlDeviceGetTemperature", TEMPERATURE_GPU)),
            _watts(self._uint(index, "nvmlDeviceGetPowerUsage")),
            _watts(self._uint(index, "nvmlDeviceGetEnforcedPowerLimit")),
            _float(self._uint(index, "nvmlDeviceGetClockInfo", CLOCK_SM)),
            _float(self._uint(index, "nvmlDeviceGetFanSpeed")),
            None if state is None or state > 15 else f"P{state}",
        ]
        return row, problem

    def processes(self, index: int) -> list[tuple[int, float | None]]:
        """(pid, MiB) of what computes there; in a container the pids may be the host's."""
        rows = (ProcessInfo * MAX_PROCESSES)()
        count = ctypes.c_uint(MAX_PROCESSES)
        failed = self._ask(index, "nvmlDeviceGetComputeRunningProcesses_v3", ctypes.byref(count), rows)
        if failed:
            return []
        found = rows[: min(count.value, MAX_PROCESSES)]
        return [(each.pid, None if each.used == UNKNOWN_MEMORY else each.used / 1048576.0) for each in found]

    def _handle(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        if self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            raise NvmlError(f"NVML hands out no GPU {index}")
        return handle

    def _call(self, name: str, *args: object) -> int:
        """The library's return code; NOT_FOUND for a function that this driver does not have."""
        function = getattr(self._lib, name, None)
        return NOT_FOUND if function is None else int(function(*args))

    def _ask(self, index: int, name: str, *args: object) -> int:
        return self._call(name, self._handles[index], *args)

    def _uint(self, index: int, name: str, *before: int) -> int | None:
        value = ctypes.c_uint()
        failed = self._ask(index, name, *[ctypes.c_uint(each) for each in before], ctypes.byref(value))
        return None if failed else value.value

    def _text(self, index: int, name: str) -> str:
        buffer = ctypes.create_string_buffer(96)
        failed = self._ask(index, name, buffer, ctypes.c_uint(96))
        return "" if failed else buffer.value.decode("utf-8", "replace")


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else round(milliwatts / 1000.0, 1)

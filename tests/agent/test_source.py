"""What the agent may be made of: Python 3.8 syntax, the standard library; and it runs isolated."""

from __future__ import annotations

import ast
import ctypes
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from core import agent
from core.agent import nvml
from core.remote import agent_archive

FOLDER = Path(agent.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_parses_as_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_the_standard_library_and_itself_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            root = name.partition(".")[0]
            assert name.startswith("core.agent") or root in sys.stdlib_module_names, name


def test_the_archive_is_the_same_every_time_and_runs_isolated(tmp_path: Path) -> None:
    first = agent_archive.build()
    agent_archive.build.cache_clear()
    assert agent_archive.build() == first
    assert len(first.data) < 64 * 1024
    path = tmp_path / first.name
    path.write_bytes(first.data)
    done = subprocess.run([sys.executable, "-I", "-S", path, "help"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"usage")


def test_the_driver_library_is_spoken_to_as_the_vendors_binding_does() -> None:
    pairs = [
        (nvml.Utilization, pynvml.c_nvmlUtilization_t),
        (nvml.Memory, pynvml.c_nvmlMemory_t),
        (nvml.ProcessInfo, pynvml.c_nvmlProcessInfo_v3_t),
    ]
    for ours, theirs in pairs:
        assert [kind for _, kind in ours._fields_] == [field[1] for field in theirs._fields_]
        assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)
    assert pynvml.NVML_TEMPERATURE_GPU == nvml.TEMPERATURE_GPU
    assert pynvml.NVML_CLOCK_SM == nvml.CLOCK_SM
    assert pynvml.NVML_ERROR_GPU_IS_LOST == nvml.GPU_IS_LOST
    binding = Path(pynvml.__file__).read_text()
    for word in ast.walk(ast.parse((FOLDER / "nvml.py").read_text())):
        if isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value.startswith("nvml"):
            assert f'"{word.value}"' in binding, word.value


def test_a_machine_without_the_driver_library_is_no_crash() -> None:
    with pytest.raises(nvml.NvmlError):
        nvml.Nvml("libthat-is-nowhere.so.1")

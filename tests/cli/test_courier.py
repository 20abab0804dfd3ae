"""Copies between two ends over real pipes: whole or not at all, resumed, and never outside of the destination."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from core.cli import courier

CODE = Path(courier.__file__).read_text("utf-8")
COMMAND = [sys.executable, "-I", "-S", "-c", CODE]


def quiet(*_: int) -> None:
    return None


def copy(verb: str, below: Path, far: str, here: str) -> dict[str, Any]:
    """As the command line does it, with a pipe where SSH would be."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, inp = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    with process:
        courier.say(out, {"verb": verb, "below": str(below), "path": far})
        out.flush()
        work: Callable[..., dict[str, Any]] = courier.send if verb == "push" else courier.receive
        try:
            return work(here, inp, out, quiet)
        finally:
            out.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "tree"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "big.bin").write_bytes(os.urandom(1_500_000))
    (source / "deep" / "er" / "ümlaut – x").write_text("text")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "zero").touch()
    (source / "latest").symlink_to("deep/er")
    (source / "outside").symlink_to("/etc")
    os.mkfifo(source / "fifo")
    return source


@pytest.fixture
def below(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def test_a_tree_arrives_and_a_second_copy_sends_nothing(tree: Path, below: Path, tmp_path: Path) -> None:
    first = copy("push", below, ".", str(tree))
    assert (first["files"], first["same"], first["left_out"]) == (4, 0, 2)
    assert first["path"] == str(below / "tree")
    again = copy("push", below, ".", str(tree))
    assert (again["same"], again["bytes"]) == (4, 0)
    back = copy("pull", below, "tree", str(tmp_path / "back"))
    assert back["failed_count"] == 0
    for name in ("big.bin", "deep/er/ümlaut – x", "run.sh", "zero"):
        assert (tmp_path / "back" / name).read_bytes() == (tree / name).read_bytes()
    assert os.access(tmp_path / "back" / "run.sh", os.X_OK)
    assert (tmp_path / "back" / "latest").readlink() == Path("deep/er")
    assert (tmp_path / "back" / "empty").is_dir()
    assert not (tmp_path / "back" / "outside").exists()


def test_where_it_lands_is_where_cp_would_put_it(tree: Path, below: Path, tmp_path: Path) -> None:
    assert copy("push", below, "new/name", str(tree))["path"] == str(below / "new" / "name")
    assert copy("push", below, "top", f"{tree}/")["path"] == str(below / "top")
    assert (below / "top" / "run.sh").exists()
    assert copy("push", below, "one/two.bin", str(tree / "big.bin"))["path"] == str(below / "one" / "two.bin")
    assert copy("push", below, "dir/", str(tree / "big.bin"))["path"] == str(below / "dir" / "big.bin")
    assert copy("pull", below, "one/two.bin", f"{tmp_path}/")["path"] == str(tmp_path / "two.bin")


def test_what_is_not_there_is_a_sentence(below: Path, tmp_path: Path) -> None:
    with pytest.raises(courier.CopyError, match="cannot be read"):
        copy("pull", below, "nothing", str(tmp_path))


def test_a_broken_copy_goes_on_where_it_was(tree: Path, below: Path) -> None:
    whole = (tree / "big.bin").read_bytes()
    cut = _push_and_break_off(tree / "big.bin", below)
    parts = list(below.glob(f".*{courier.PART}"))
    assert len(parts) == 1
    assert 0 < parts[0].stat().st_size <= cut
    assert not (below / "big.bin").exists()
    kept = parts[0].stat().st_size
    result = copy("push", below, ".", str(tree / "big.bin"))
    assert result["bytes"] == len(whole) - kept
    assert (below / "big.bin").read_bytes() == whole
    assert list(below.glob(f".*{courier.PART}")) == []


def test_a_part_that_is_not_ours_is_begun_again(tree: Path, below: Path) -> None:
    _push_and_break_off(tree / "big.bin", below)
    (part,) = below.glob(f".*{courier.PART}")
    part.write_bytes(b"x" * part.stat().st_size)
    result = copy("push", below, ".", str(tree / "big.bin"))
    assert result["bytes"] == (tree / "big.bin").stat().st_size
    assert (below / "big.bin").read_bytes() == (tree / "big.bin").read_bytes()


def _push_and_break_off(source: Path, below: Path) -> int:
    """Sends two chunks of a file, then the connection is gone."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, inp = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    with process:
        courier.say(out, {"verb": "push", "below": str(below), "path": "."})
        _, entries, _ = courier.listing(str(source))
        courier.say(out, {"directory": False, "name": source.name, "contents": False, "entries": 1, "odd": 0})
        courier.say(out, entries[0])
        out.flush()
        assert len(courier.hear(inp)["want"]) == 1
        data = source.read_bytes()
        for begin in (0, courier.CHUNK_BYTES):
            chunk = data[begin : begin + courier.CHUNK_BYTES]
            out.write(len(chunk).to_bytes(4, "big") + chunk)
        out.close()
        process.wait()
    return 2 * courier.CHUNK_BYTES


def sent(listed: list[Any], *chunks: bytes, **header: Any) -> BinaryIO:
    """What a hostile machine might send."""
    about = {"directory": True, "name": "x", "contents": True, "entries": len(listed), "odd": 0} | header
    lines = [json.dumps(line).encode() + b"\n" for line in (about, *listed)]
    return io.BytesIO(b"".join(lines) + b"".join(chunks))


def chunk(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


END = (0).to_bytes(4, "big")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//x", "", ".", "a/./x", "nul\0", "x" * 300, "a/" + "ü" * 200]
)
def test_a_name_never_leads_outside(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(courier.CopyError):
        courier.receive(str(inside), sent([["f", path, 1, 0, 0o644, ""]], chunk(b"x"), END), io.BytesIO(), quiet)
    assert list(tmp_path.rglob("*")) == [inside]


@pytest.mark.parametrize(
    ("path", "target", "taken"),
    [
        ("l", "/etc/passwd", False),
        ("l", "../x", False),
        ("d/l", "../x", True),
        ("d/l", "../../x", False),
        ("d/l", "t/../../x", False),
        ("l", "d/x", True),
        ("l", "d/../..", False),
    ],
)
def test_a_link_stays_inside(tmp_path: Path, path: str, target: str, taken: bool) -> None:
    entries = [["d", "d", 0, 0, 0o755, ""], ["l", path, 0, 0, 0, target]]
    result = courier.receive(str(tmp_path / "in"), sent(entries), io.BytesIO(), quiet)
    assert (tmp_path / "in" / path).is_symlink() is taken
    assert result["left_out"] == (0 if taken else 1)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(courier.CopyError, match="no directory"):
        courier.receive(
            str(tmp_path / "in"), sent([["f", "d/x", 1, 0, 0o644, ""]], chunk(b"x"), END), io.BytesIO(), quiet
        )
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_more_than_announced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(courier.CopyError, match="more than it announced"):
        courier.receive(
            str(tmp_path / "in"), sent([["f", "x", 1, 0, 0o644, ""]], chunk(b"xx"), END), io.BytesIO(), quiet
        )
    assert not (tmp_path / "in" / "x").exists()


def test_more_than_there_is_room_for_is_refused_before_it_begins(tmp_path: Path) -> None:
    answer = io.BytesIO()
    with pytest.raises(courier.CopyError, match="are free"):
        courier.receive(str(tmp_path / "in"), sent([["f", "x", 2**60, 0, 0o644, ""]]), answer, quiet)
    assert "are free" in json.loads(answer.getvalue())["error"]


def test_a_mode_gives_no_special_rights(tmp_path: Path) -> None:
    courier.receive(str(tmp_path / "in"), sent([["f", "x", 1, 0, 0o6777, ""]], chunk(b"x"), END), io.BytesIO(), quiet)
    assert (tmp_path / "in" / "x").stat().st_mode & 0o7777 == 0o777


@pytest.mark.parametrize("count", [-1, courier.ENTRIES_MAX + 1])
def test_too_many_files_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(courier.CopyError):
        courier.receive(str(tmp_path / "in"), sent([], entries=count), io.BytesIO(), quiet)


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'["f","x","1",0,0,""]\n', b'["x","x",1,0,0,""]\n'])
def test_what_is_not_understood_is_a_sentence(tmp_path: Path, line: bytes) -> None:
    header = json.dumps({"directory": True, "name": "x", "contents": True, "entries": 1, "odd": 0}).encode() + b"\n"
    with pytest.raises(courier.CopyError):
        courier.receive(str(tmp_path / "in"), io.BytesIO(header + line), io.BytesIO(), quiet)


def test_a_file_that_changes_meanwhile_is_not_put_in_place(tree: Path, below: Path) -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, inp = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    with process:
        courier.say(out, {"verb": "push", "below": str(below), "path": "."})
        out.flush()
        seen = False

        def meddle(*_: int) -> None:
            nonlocal seen
            if not seen:
                seen = True
                (tree / "run.sh").write_text("short")

        result = courier.send(str(tree), inp, out, meddle)
        out.close()
    assert result["failed"] == ["run.sh"]
    assert not (below / "tree" / "run.sh").exists()


def test_a_directory_where_a_file_should_be_is_one_sentence_at_both_ends(
    tree: Path, below: Path, tmp_path: Path
) -> None:
    for top in (below / "tree", tmp_path / "back" / "tree"):
        (top / "big.bin" / "inside").mkdir(parents=True)
    with pytest.raises(courier.CopyError, match="is a directory here"):
        copy("push", below, ".", str(tree))
    with pytest.raises(courier.CopyError, match="is a directory here"):
        copy("pull", tmp_path, "tree", str(tmp_path / "back"))
    assert (below / "tree" / "big.bin" / "inside").is_dir()

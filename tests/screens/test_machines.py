"""The fleet: order, strangers, destroying by name, faults, one machine's detail."""

from __future__ import annotations

from core.domain.errors import IntentRefused
from tests.screens.days import full, working
from tests.screens.scenario import Scenario
from tests.screens.stage import Stage, stage
from tui.screens.log import LogPane
from tui.screens.machine import MachineScreen, continuation
from tui.screens.machines import Machines, fewer, mean_load
from tui.widgets.plot import Plot


def fleet(on: Stage) -> Machines:
    panel = on.console.panel
    assert isinstance(panel, Machines)
    return panel


def asked(on: Stage, path: str) -> list[dict[str, object]]:
    return [body for where, body in on.engine.asked if where == path]


async def test_risk_stands_first_and_strangers_last() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("4")
        assert fleet(on).rows.keys[0] == "m-b2c3d4e5"
        assert fleet(on).rows.keys[-1] == "vast:20480001"


async def test_destroy_asks_for_the_name_and_sends_one_intent() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        await on.press("4", "x", *"wrong", "enter")
        assert "nothing was done" in on.text()
        assert asked(on, "/intents/down") == []
        await on.press(*["backspace"] * 5, *"tts", "enter")
        (down,) = asked(on, "/intents/down")
        assert down["name"] == "tts"
        assert down["operation"] in on.console.started
        assert "bills until proven gone" in on.said()


async def test_escape_destroys_nothing() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        await on.press("4", "x", *"tts", "escape")
        assert on.engine.asked == []


async def test_marked_machines_are_listed_one_by_one() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("4", "asterisk", "x")
        text = on.text()
        for name in ("eval", "m-bbbb2222", "tts"):
            assert name in text
        assert "destroy 3" in text
        await on.press(*"destroy", "space", "3", "enter")
        assert {body["name"] for body in asked(on, "/intents/down")} == {"eval", "tts"}
        assert [body["machine"] for body in asked(on, "/intents/machine")] == ["m-bbbb2222"]


async def test_what_is_being_destroyed_is_not_destroyed_again() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("4", "down", "x")
        assert "being destroyed already" in on.said()
        assert on.engine.asked == []


async def test_a_refusal_is_a_sentence_with_its_next_step() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        on.engine.refuse["/intents/down"] = IntentRefused("It is being rented.", hint="Wait until it is ready.")
        await on.press("4", "x", *"tts", "enter")
        assert "It is being rented." in on.said()
        assert "Wait until it is ready." in on.said()
        assert on.console.started == set()


async def test_a_stranger_is_not_destroyed_or_opened_but_adopted() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("4", "end", "x")
        assert "nothing of ours" in on.said()
        await on.press("enter")
        assert isinstance(on.console.panel, Machines)
        await on.press("a")
        assert "adopt" in on.text()
        assert "destroy" not in on.console.screen.query_one("#card").border_title
        await on.press("escape", "colon", *"adopt", "enter")
        (adopt,) = asked(on, "/intents/machine")
        assert (adopt["machine"], adopt["verb"]) == ("vast:20480001", "adopt")


async def test_faults_are_the_labs() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        await on.press("4", "L", "enter")
        (fault,) = asked(on, "/intents/fault")
        assert (fault["name"], fault["machine"]) == ("kill", "m-k3j9x2qa")
    s = Scenario(lab=False)
    s.run("tts", "m-1")
    async with stage(s) as on:
        await on.press("4", "L")
        assert on.engine.asked == []
        assert "lab" not in on.text().replace("label", "")


async def test_the_cursor_stays_on_its_machine_when_the_order_changes() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("4", "end", "up")
        before = fleet(on).table.cursor_key
        seq = s.state.seq
        s.say("machine_lost", machine="m-bbbb2222", workspace="llm", reason="gone")
        on.clock.offset = 5.0
        await on.tell(seq)
        assert fleet(on).rows.keys[1] == "m-bbbb2222" or fleet(on).rows.keys[0] == "m-bbbb2222"
        assert fleet(on).table.cursor_key == before


async def test_only_changed_rows_are_painted_when_readings_come() -> None:
    s = Scenario()
    for i in range(20):
        s.run(f"w{i}", f"m-{i:02d}")
        s.read(f"m-{i:02d}", 50.0)
    async with stage(s) as on:
        await on.press("4")
        table = fleet(on).table
        before = table.paint_lines
        s.read("m-03", 99.0)
        from core.domain import api

        on.engine.tell(api.Delta(readings={"m-03": s.readings["m-03"]}))
        await on.until(lambda: on.console.model.readings["m-03"].gpus[0].utilization_pct == 99.0, "the reading")
        on.console.pulse()
        await on.pilot.pause()
        assert table.paint_lines - before <= 2


async def test_the_detail_shows_curves_processes_and_the_log_as_it_grows() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        await on.press("4", "enter")
        panel = on.console.panel
        assert isinstance(panel, MachineScreen)
        assert "m-k3j9x2qa" in on.console.model.watched
        log = panel.query_one("#log", LogPane)
        await on.until(lambda: len(log) == 150, "the log")
        s.logs["m-k3j9x2qa:log"] = [*s.logs["m-k3j9x2qa:log"][5:], "step 5000 loss 1.6500"]
        panel.fetch_log()
        await on.until(lambda: "step 5000" in on.text(), "the new line")
        assert len(log) == 151
        panel.pulse_slowly(panel.topics)
        assert [one.name for one in panel.query_one("#minute", Plot).series] == ["util", "memory", "power"]
        assert "python train.py" in on.text()
        await on.press("escape")
        assert isinstance(on.console.panel, Machines)
        assert on.console.model.watched == set()
        assert fleet(on).table.cursor_key == "m-k3j9x2qa"


async def test_a_hostile_name_or_log_cannot_drive_the_terminal() -> None:
    s, past = working()
    s.logs["m-k3j9x2qa:log"] = ["\x1b]52;c;aGFjaw==\x07\x1b[2J\u202eevil"]
    async with stage(s, past=past) as on:
        await on.press("4", "enter")
        await on.until(lambda: "evil" in on.text(), "the log")
        assert "\x1b" not in on.text()
        assert "\u202e" not in on.text()


def test_a_tail_that_moved_on_gives_only_what_is_new() -> None:
    assert continuation(["a", "b", "c"], ["b", "c", "d"]) == ["d"]
    assert continuation([], ["a"]) == ["a"]
    assert continuation(["a", "b"], ["x", "y"]) is None
    assert continuation(["a", "b"], ["a", "b"]) == []


def test_loads_are_means_and_unknown_is_a_gap() -> None:
    assert mean_load(bytes([50, 100])) == 75.0
    assert mean_load(bytes([50, 255])) == 50.0
    assert mean_load(bytes([255])) is None
    assert fewer([1.0, 3.0, None, None, 5.0, 5.0], 6, 3) == [2.0, None, 5.0]

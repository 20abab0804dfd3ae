"""The journal: every fact once, in order, filtered, followed."""

from __future__ import annotations

from tests.screens.days import full
from tests.screens.scenario import Scenario
from tests.screens.stage import Stage, stage
from tui.screens.log import Log


def journal(on: Stage) -> Log:
    panel = on.console.panel
    assert isinstance(panel, Log)
    return panel


async def test_every_fact_once_and_in_order() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("0")
        await on.until(lambda: len(journal(on).facts) == len(s.facts), "the journal")
        seq = s.state.seq
        s.say("machine_lost", machine="m-bbbb2222", reason="gone")
        await on.tell(seq)
        numbers = [fact.seq for fact in journal(on).facts]
        assert numbers == list(range(1, s.state.seq + 1))
        assert len(journal(on).view) == len(numbers)
        assert "m-bbbb2222: lost: gone" in on.text()


async def test_the_filter_hides_and_ampersand_shows_the_others_again() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("0", "slash", *"bad", "enter")
        assert len(journal(on).view) == 2
        assert f"2/{len(s.facts)}" in on.text()
        await on.press("ampersand")
        assert len(journal(on).view) == len(s.facts)
        await on.press("ampersand", "escape")
        assert len(journal(on).view) == len(s.facts)


async def test_scrolling_up_holds_and_G_follows_again() -> None:
    s, past = full()
    async with stage(s, (80, 24), past=past) as on:
        await on.press("0", "up")
        assert not journal(on).view.following
        seq = s.state.seq
        for _ in range(3):
            s.say("provider_recovered", provider="vast")
        await on.tell(seq)
        assert "3 new below" in on.text()
        await on.press("G")
        assert journal(on).view.following
        assert "following" in on.text()


async def test_looking_makes_them_read() -> None:
    s = Scenario()
    s.run("tts", "m-1")
    async with stage(s) as on:
        seq = s.state.seq
        s.say("machine_lost", machine="m-1", workspace="tts", reason="gone")
        await on.tell(seq)
        assert on.console.model.unread == 1
        await on.press("0")
        assert on.console.model.unread == 0

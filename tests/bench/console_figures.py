"""What the console costs: in a real terminal, over a real engine."""

from __future__ import annotations

import sys
import time

from tests.bench.cli_figures import cpu_ms
from tests.bench.figures import Figure, median_of
from tests.bench.rig import ROOT, Rig
from tests.screens.terminal import Terminal

SIZE = {"columns": 120, "rows": 36}
FRAME = b"1 Overview"
SPLASH = b"opening the console"
MACHINE = b"RTX 4090"
MARKET, MACHINES, DOWN = b"2", b"4", b"j"
WINDOW_S = 5.0
SETTLE_S = 5.0
KEY_GAP_S = 0.08
OFFERS = 10_000
KEYS = 50


def console(rig: Rig) -> Terminal:
    argv = (sys.executable, "-m", "core.cli", "--home", str(rig.home.state))
    return Terminal(argv, environment={"PYTHONPATH": str(ROOT)}, **SIZE)


def spend(terminal: Terminal, seconds: float) -> float:
    """CPU seconds used while the terminal is read for so long."""
    used, ends = terminal.cpu_s(), time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        terminal.pump(left)
    return terminal.cpu_s() - used


def load(windows: int) -> dict[str, Figure]:
    """`console.cpu_pct_1000x1hz`: a thousand machines with eight GPUs each at 1 Hz, the machines panel in front."""
    with Rig() as rig:
        rig.seed(1000)
        rig.engine("--fleet", rig.fleet())
        with console(rig) as terminal:
            terminal.until(FRAME)
            terminal.press(MACHINES)
            terminal.until(MACHINE)
            spend(terminal, SETTLE_S)
            samples = [100 * spend(terminal, WINDOW_S) / WINDOW_S for _ in range(windows)]
    return {"console.cpu_pct_1000x1hz": median_of(samples, "% of a core", "<= 2", "1000 machines x 8 GPUs, 120x36")}


def key(rounds: int) -> dict[str, Figure]:
    """`console.key_cpu_ms_10k`: one cursor move in a market of ten thousand offers, less what idling costs."""
    with Rig() as rig:
        rig.engine("--offers", str(OFFERS))
        with console(rig) as terminal:
            terminal.until(FRAME)
            terminal.press(MARKET)
            terminal.until(b"RTX")
            spend(terminal, SETTLE_S)
            idle = spend(terminal, WINDOW_S) / WINDOW_S
            samples = []
            for _ in range(rounds):
                used = 0.0
                for _ in range(KEYS):
                    terminal.press(DOWN)
                    used += spend(terminal, KEY_GAP_S)
                samples.append(1000 * (used - idle * KEYS * KEY_GAP_S) / KEYS)
    note = f"{OFFERS:,} offers, means of {KEYS} keys"
    return {"console.key_cpu_ms_10k": median_of(samples, "ms CPU", "<= 5", note)}


def start(times: int) -> dict[str, Figure]:
    """`console.start_ratio`, `splash_ms` and `first_data_ms`; before each start the toolkit alone is imported."""
    ratios, splashes, data = [], [], []
    with Rig() as rig:
        rig.seed(5)
        rig.engine("--fleet", rig.fleet())
        for _ in range(times):
            toolkit = cpu_ms("-c", "import textual.app")
            with console(rig) as terminal:
                splashes.append(1000 * terminal.until(SPLASH))
                terminal.until(FRAME)
                ratios.append(1000 * terminal.cpu_s() / toolkit)
                data.append(1000 * terminal.until(b"bench-"))
    return {
        "console.start_ratio": median_of(
            ratios, "x", "<= 1.3", "CPU to the first picture / CPU of `import textual.app`"
        ),
        "console.splash_ms": median_of(splashes, "ms", "<= 80", "wall clock from exec, interpreter included"),
        "console.first_data_ms": median_of(data, "ms", "<= 900", "wall clock to a workspace's name on the screen"),
    }

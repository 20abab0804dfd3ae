"""Widgets are tested in the terminal that the snapshots were taken in."""

import os

os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
os.environ.pop("NO_COLOR", None)

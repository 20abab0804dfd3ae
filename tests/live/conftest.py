"""Tests that spend real money. One rule: without UNDERSTUDY_LIVE=1 there is nothing here to collect."""

import os

collect_ignore = [] if os.environ.get("UNDERSTUDY_LIVE") == "1" else ["test_vast_live.py"]

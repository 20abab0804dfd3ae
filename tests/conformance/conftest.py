"""Which clients of other people are here to be tested with: each needs an environment of its own, named by a variable
(see .ci/run)."""

import os

collect_ignore = [] if os.environ.get("UNDERSTUDY_VASTAI") else ["test_vastai_cli.py"]

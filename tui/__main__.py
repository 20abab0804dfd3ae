"""``python -m tui`` opens the console of the present home."""

import sys

from tui.main import main

sys.exit(main())

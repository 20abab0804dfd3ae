"""`python -m core.cli` is `understudy`."""

from core.cli.main import main

main()

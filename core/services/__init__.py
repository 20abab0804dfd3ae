"""What keeps things true: loops that watch the world, decide, and start operations; one file per noun."""

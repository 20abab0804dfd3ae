"""The daemon and the only composition root: lifecycle, the API on a Unix socket, the feed."""

"""Domain values become cells and lines of text here. One rule: pure, and only `core.domain` is known; no toolkit."""

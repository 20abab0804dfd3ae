"""The `understudy` command: one module per noun, each loaded only when its verb is used."""

"""The console, a client of the engine. Its one rule: it shows what the engine said and when, and decides nothing."""

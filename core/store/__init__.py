"""The one writer: the engine's own tables, in one thread, on SQLite or PostgreSQL."""

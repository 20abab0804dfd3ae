"""Understudy's core: everything but the user interface."""

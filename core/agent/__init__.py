"""Runs on the rented machine: the standard library alone, Python 3.8 syntax, shipped as one .pyz."""

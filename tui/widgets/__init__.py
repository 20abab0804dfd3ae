"""Reusable widgets. Their one rule: they know nothing of the product; text, roles and numbers come in from outside."""

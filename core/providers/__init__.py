"""The clouds' HTTP: one file per provider, all of the shape that `base.py` says."""

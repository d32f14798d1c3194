"""What may be asked of a whole model: one file a family of properties, `base.py` says what they have in common."""

"""Segment many volumes, as infer.py does: one bad case does not stop the others."""

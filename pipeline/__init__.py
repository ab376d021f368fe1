"""Calibrated confidence thresholds for a cheap model in front of a strong one."""

__version__ = "0.1.0"

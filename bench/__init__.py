"""Figures of annul beside their floors, measured in the same run: ``python -m bench`` (`make bench`)."""

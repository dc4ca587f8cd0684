"""Outlines as Segmentations of every kind, and how they are read again."""

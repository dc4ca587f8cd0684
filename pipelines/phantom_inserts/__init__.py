"""Sphere and rod inserts of a simulated water phantom: a MONAI bundle that ships with its weights."""

def lint(*a, **k): pass

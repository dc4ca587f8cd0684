"""Numbers, codes and places as Structured Reports."""

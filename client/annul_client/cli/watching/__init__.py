"""``annul watch``: the jobs there are, live in the terminal."""

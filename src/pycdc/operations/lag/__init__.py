"""How far behind a running pipeline is, measured from outside."""

"""A migration as the status server shows it: its groups, its façade, and the commands that a page may give."""

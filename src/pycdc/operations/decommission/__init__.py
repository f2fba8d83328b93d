"""The decommission: show that nobody uses what a group left behind, remove it, and prove each of it gone."""

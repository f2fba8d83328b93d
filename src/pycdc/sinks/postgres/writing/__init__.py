"""Turn writes into statements in a safe order."""

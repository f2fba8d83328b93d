"""The shop: orders, and the inventory as long as it has not moved."""

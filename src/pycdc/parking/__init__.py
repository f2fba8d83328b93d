"""Park rows that cannot be delivered, and what follows of their keys, until somebody retries or drops them."""

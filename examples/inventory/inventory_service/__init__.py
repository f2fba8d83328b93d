"""The InventoryService: items and how much of each is available. It needs nothing outside this folder but psycopg."""

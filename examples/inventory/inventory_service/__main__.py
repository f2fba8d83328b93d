"""Serve: python -m inventory_service DSN PORT."""

import sys

from .server import InventoryServer

if __name__ == "__main__":
    InventoryServer(sys.argv[1], int(sys.argv[2])).serve_forever()

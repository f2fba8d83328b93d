"""Serve: python -m monolith DSN PORT."""

import sys

from .shop import ShopServer

if __name__ == "__main__":
    ShopServer(sys.argv[1], int(sys.argv[2])).serve_forever()

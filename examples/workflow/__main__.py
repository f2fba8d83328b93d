"""Run an order, or those that a killed process left: python -m examples.workflow URL [ORDER ITEM PIECES CARD]."""

from __future__ import annotations

import sys

from examples.workflow.order_workflow import OrderWorkflow


def main(url: str, *order: str) -> None:
    workflow = OrderWorkflow(url)
    workflow.launch()
    workflow.finish()
    if order:
        number, item, pieces, card = order
        sys.stdout.write(f"{workflow.place(number, item, int(pieces), card)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

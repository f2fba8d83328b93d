"""JSON with a schema beside it, as whoever writes it may lay it out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycdc.connectors.kafka.json_decoder import JsonDecoder

SCHEMA = {"type": "struct", "fields": [{"type": "int32", "optional": False, "field": "k"}], "optional": False}


@pytest.mark.parametrize("layout", [{}, {"separators": (",", ":")}, {"indent": 2}], ids=["spaces", "none", "lines"])
def test_white_space_between_its_parts_means_nothing(layout: Any) -> None:
    reader = JsonDecoder()
    for number in (1, 2, 3):  # the first with a schema, and those after it
        text = json.dumps({"schema": SCHEMA, "payload": {"k": number}}, **layout)
        assert reader.read(text.encode()) == ({"k": number}, True)

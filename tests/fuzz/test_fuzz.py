"""No parser of strangers' bytes fails in a way of its own, or takes long: ``python -m tests.fuzz`` for seconds."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.generated_examples import examples

ALWAYS = (
    b"", b"\0", b"\xff" * 40, b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"', b"1e999999999", b"9" * 10_000,
    b'{"hops":1e999,"pipeline":"x"}', b'{"v":1e1000000,"id":1}', b"\x80" * 64, b"-" * 5_000,
    b'{"pipeline":"x","hops":NaN}', b"\0" * 10_000,
)  # fmt: skip


def mutated(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes, and seeds with something else in their midst."""
    cut = st.builds(
        lambda seed, at, piece, left: seed[: at % (len(seed) + 1)] + piece + seed[at % (len(seed) + 1) + left :],
        st.sampled_from(seeds),
        st.integers(0, 1000),
        st.binary(max_size=12) | st.sampled_from(seeds),
        st.integers(0, 12),
    )
    return st.binary() | cut


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_refuses_bytes_by_its_own_error_or_reads_them(name: str) -> None:
    target = TARGETS[name]

    @examples(20, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(mutated((b"", *target.seeds)))
    def run(data: bytes) -> None:
        target(data)

    for data in (*target.seeds, *ALWAYS):
        began = time.process_time()
        target(data)
        assert time.process_time() - began < 5, data[:40]
    run()

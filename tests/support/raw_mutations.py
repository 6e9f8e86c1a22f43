"""Messages with some bytes changed, for tests that compare a reader with another one."""

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes], nasty: list[bytes]) -> bytes:
    """A seed with up to four bytes or words put in, put over others, or taken away."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        taken = draw(st.integers(0, 3))
        put = draw(st.one_of(st.just(b""), st.sampled_from(nasty)))
        data = data[:place] + put + data[place + taken :]
    return data

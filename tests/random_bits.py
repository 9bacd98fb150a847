"""The draws of rows in plain Python integers: SplitMix64, one step a draw."""

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
WORD = 2**64 - 1


def mix(z):
    """Return the output of a state."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


class Draws:
    """The draws of one row of a stream, in their order."""

    def __init__(self, key, row):
        self.state = mix(int(key) ^ mix((row + GAMMA) & WORD))

    def below(self, n):
        """Return a uniform integer in 0..n-1."""
        self.state = (self.state + GAMMA) & WORD
        return mix(self.state) * n >> 64

    def shares(self, count):
        """Return the next draws as numbers from 0 to 1, float64[count]."""
        return self.words(count) / 2.0**64

    def many_below(self, n, count):
        """Return uniform integers in 0..n-1, int64[count]; n is a power of two."""
        assert n & (n - 1) == 0
        return (self.words(count) >> np.uint64(65 - n.bit_length())).astype(np.int64)

    def words(self, count):
        """Return the bits of the next draws, uint64[count]."""
        with np.errstate(over="ignore"):
            steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA)
            z = np.uint64(self.state) + steps
            self.state = (self.state + count * GAMMA) & WORD
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

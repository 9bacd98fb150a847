"""The draws of rows in plain Python integers: SplitMix64, one step a draw."""

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

"""Is a uniform real below exp(-p/q), or another number that can be enclosed? Decided exactly, by integers.

From as many bits of the real as it takes.
"""

from collections.abc import Callable

_WORD_BITS = 64
_GUARD_BITS = 32


class UniformReal:
    """A uniform real in [0, 1) of which the first bits are drawn and the others are drawn when they are needed.

    prefix: its first `bits` bits. more: the next 64 bits at each call.
    """

    def __init__(self, *, prefix: int, bits: int, more: Callable[[], int]) -> None:
        self._prefix = prefix
        self._bits = bits
        self._more = more

    def is_below_exp(self, numerator: int, denominator: int) -> bool:
        """Whether the real is below exp(-numerator/denominator), an exponent of zero or more.

        Ends with probability one: e to a rational power other than zero is irrational (Lambert), and each 64 bits more
        leave the question open with probability about 2^-63.
        """
        if numerator == 0:
            return True
        return self.is_below(lambda bits: enclose_exp(numerator, denominator, bits))

    def is_below(self, enclose: Callable[[int], tuple[int, int]]) -> bool:
        """Whether the real is below a number of which `enclose(bits)` gives integers low <= 2^bits number <= high.

        Ends with probability one if the enclosures stay a few units wide.
        """
        while True:
            low, high = enclose(self._bits)
            # The real lies in [prefix, prefix + 1) / 2^bits.
            if self._prefix + 1 <= low:
                return True
            if self._prefix >= high:
                return False
            self._prefix = self._prefix << _WORD_BITS | self._more()
            self._bits += _WORD_BITS


def enclose_exp(numerator: int, denominator: int, bits: int) -> tuple[int, int]:
    """Integers low and high with  low <= 2^bits exp(-numerator/denominator) <= high  and high - low at most 2.

    exp(-x) = (exp(-x/2^k))^(2^k) with x/2^k at most 1: an alternating series whose terms fall, bounded by interval
    arithmetic on integers of `bits` + 32 bits and 2 more for each squaring.
    """
    halvings = max(0, (numerator // denominator).bit_length())
    precision = bits + _GUARD_BITS + 2 * halvings
    one = 1 << precision
    x_low = (numerator << precision) // (denominator << halvings)
    low, high = _exp_of_minus(x_low + 1, precision)[0], _exp_of_minus(x_low, precision)[1]
    for _ in range(halvings):
        low, high = low * low >> precision, min(one, (high * high >> precision) + 1)
    shift = precision - bits
    return low >> shift, (high >> shift) + 1


def _exp_of_minus(x: int, precision: int) -> tuple[int, int]:
    # Bounds on 2^precision exp(-x / 2^precision) for 0 <= x <= 2^precision. Each term is cut to an integer: it is below
    # the true one by less than 1 from its own division and 1/k of what the last one lacked, less than 2 in all.
    total = term = 1 << precision
    k = 0
    while term:
        k += 1
        term = term * x // (k << precision)
        total += -term if k % 2 else term
    # What is left of the series is below the first true term that is not counted, less than 2.
    slack = 2 * k + 4
    return max(0, total - slack), total + slack

"""Arrays of expressions, each a random-looking number: equal expressions are equal numbers, others are not.

A sum is a number made of the sum of its terms', a product of the product of its factors', so their order does not
matter and what is nested stays nested. −x has the number −x. Equality is wrong with a chance of about 2^-60, whatever
the expressions are, since the numbers depend on a secret of the process.
Source: Schwartz 1980, Fast Probabilistic Algorithms for Verification of Polynomial Identities.
"""

import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SECRET = secrets.randbits(64)
MASK = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Symbols:
    """An array of expressions.

    Args:
        ids: uint64, of the array's shape; 0 for the number 0.
        known: the values, where all of them are constants of the program.
        product: where an expression is a product, which may be fused into a sum; None if nowhere.
        terms: where the array is a sum along axes, the number of its terms' sum, and how many they are.
    """

    ids: np.ndarray
    known: np.ndarray | None = None
    product: np.ndarray | None = None
    terms: tuple[np.ndarray, np.ndarray] | None = None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Symbols":
        """The same expressions elsewhere."""
        known, product = (None if x is None else np.asarray(move(x)) for x in (self.known, self.product))
        terms = None if self.terms is None else (np.asarray(move(self.terms[0])), np.asarray(move(self.terms[1])))
        return Symbols(np.asarray(move(self.ids)), known, product, terms)

    def products(self) -> np.ndarray:
        return np.zeros(self.ids.shape, bool) if self.product is None else self.product


def _key(word: str) -> np.uint64:
    return np.uint64((zlib.crc32(word.encode()) * 0x9E3779B97F4A7C15 ^ SECRET * 0xD1342543DE82EF95) & MASK)


def mixed(x: np.ndarray, word: str) -> np.ndarray:
    """A random function of numbers, another one for each word. Source: Steele et al. 2014, SplitMix64."""
    shape = np.shape(x)
    x = np.array(x, np.uint64, ndmin=1)
    for turn in ("", "again"):
        x = x ^ _key(word + turn)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x.reshape(shape)


def odd(x: np.ndarray, word: str) -> np.ndarray:
    """As `mixed`, with f(−x) = −f(x) and f(0) = 0."""
    x = np.asarray(x, np.uint64)
    negative = (x >> np.uint64(63)).astype(bool)
    found = mixed(np.where(negative, np.uint64(0) - x, x), word).reshape(x.shape)
    return np.where(x == 0, np.uint64(0), np.where(negative, np.uint64(0) - found, found))


def leaf(word: str, shape: tuple[int, ...]) -> Symbols:
    """Inputs: another expression for every element."""
    count = int(np.prod(shape, dtype=np.int64))
    return Symbols(mixed(np.arange(count, dtype=np.uint64), f"leaf {word}").reshape(shape))


@np.errstate(over="ignore")
def constant(values: Any) -> Symbols:
    """Numbers of the program; those of one type of numbers that are equal are equal expressions."""
    values = np.asarray(values)
    sizes = np.abs(values.astype(np.float64)) if values.dtype.kind != "b" else values.astype(np.float64)
    bits = np.ascontiguousarray(sizes).view(np.uint64).reshape(values.shape)
    found = mixed(bits, f"constant {values.dtype}").reshape(values.shape)
    found = np.where(sizes == 0, np.uint64(0), found) if values.dtype.kind == "f" else found
    negative = np.signbit(values) if values.dtype.kind == "f" else values < np.zeros((), values.dtype)
    return Symbols(np.where(negative, np.uint64(0) - found, found), values)


ONE, LEAST, MOST = (int(constant(np.float32(c)).ids) for c in (1, -np.inf, np.inf))


IGNORED = {"maximum": LEAST, "minimum": MOST}  # an operand that changes nothing


def negated(x: Symbols) -> Symbols:
    return Symbols(np.uint64(0) - x.ids, None if x.known is None else -x.known, x.product)


def multiplied(x: Symbols, y: Symbols) -> Symbols:
    """Elementwise; a factor of 1 or −1 changes nothing, 0 makes 0, and other powers of two are exact."""
    found = odd(x.ids, "factor") * odd(y.ids, "factor")
    minus = np.uint64((-ONE) & MASK)
    exact = power_of_two(x) | power_of_two(y)
    for a, b in ((x, y), (y, x)):
        found = np.where(a.ids == np.uint64(ONE), b.ids, np.where(a.ids == minus, np.uint64(0) - b.ids, found))
    return Symbols(found, product=~exact)


def power_of_two(x: Symbols) -> np.ndarray:
    """Where an expression is a constant power of two, whose products are exact (but where they are subnormal)."""
    if x.known is None or x.known.dtype.kind != "f":
        return np.zeros(x.ids.shape, bool)
    mantissa, exponent = np.frexp(np.abs(x.known))
    return (mantissa == 0.5) & (np.abs(exponent) < 100)


def divided(x: Symbols, y: Symbols, turned: bool = False, inverted: bool = False) -> Symbols:
    """Elementwise; a divisor that is a power of two is a factor.

    Args:
        turned: whether every constant divisor of usual size is to be a factor, its reciprocal rounded.
        inverted: whether a divisor that is no constant is to be inverted first, and then a factor.
    """
    if inverted and y.known is None:
        return multiplied(x, divided(constant(np.ones(y.ids.shape, np.float32)), y))
    exact = power_of_two(y)
    if turned and y.known is not None and y.known.dtype == np.float32:
        exact = exact | ((np.abs(y.known) > 2.0**-100) & (np.abs(y.known) < 2.0**100))
    found, product = odd(x.ids, "dividend") * odd(y.ids, "divisor"), None
    if exact.any() and y.known is not None:
        factor = multiplied(x, constant(1 / np.where(exact, y.known, y.known.dtype.type(1))))
        found, product = np.where(exact, factor.ids, found), exact & factor.products()
    found = np.where(y.ids == 0, applied("quotient by zero", x.ids), found)
    return Symbols(np.where(y.ids == np.uint64(ONE), x.ids, found), None, product)


def summed(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The expression of a sum of so many terms that are not 0; a single term is itself."""
    return np.where(count == 1, total, odd(total, "sum"))


def applied(word: str, *operands: np.ndarray, any_order: bool = False) -> np.ndarray:
    """A function of which nothing is known but its name, and whether the order of its operands matters."""
    total = sum(mixed(x, word if any_order else f"{word} operand {i}") for i, x in enumerate(operands))
    return mixed(np.asarray(total), word).reshape(np.shape(operands[0]))


def chosen(word: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The larger or the smaller of two, "maximum" or "minimum"."""
    found, ignored = applied(word, x, y, any_order=True), np.uint64(IGNORED[word])
    return np.where((x == ignored) | (x == y), y, np.where(y == ignored, x, found))

# SPDX-License-Identifier: Apache-2.0
"""Files that are almost right: good ones, changed here and there as bad luck and bad people change them."""

import random
import struct
from collections.abc import Callable, Iterator, Sequence

MOST_CHANGES = 6  # of one file
_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 2**64 - 1)
_WORDS = (
    *(b"1e999", b"-1", b"nan", b"inf", b"9" * 400, b"0x10", b"", b"null", b"{}", b"[]", b"\xff\xfe", b"\xed\xa0\x80"),
    *(
        b"'",
        b'"',
        b"\n",
        b"\r",
        b"\0",
        b"../../etc/passwd",
        b"&a [*a,*a]",
        b"[" * 3000,
        b"{" * 3000,
        b"\xf0\x9f\x98\x80",
    ),
)
_REAL = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e308, 5e-324)


def mutants(originals: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Without end; the same for the same seed."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, MOST_CHANGES)):
            chance.choice(_CHANGES)(chance, data, originals)
        yield bytes(data)


def _place(chance: random.Random, data: bytearray) -> int:
    """Mostly near the beginning, where the fields are that decide."""
    return min(int(abs(chance.gauss(0, 64))), len(data)) if chance.random() < 0.5 else chance.randint(0, len(data))


def _flip(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    if data:
        data[_place(chance, data) % len(data)] ^= 1 << chance.randrange(8)


def _number(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at, size = _place(chance, data), chance.choice((1, 2, 4, 8))
    value = chance.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))


def _real(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at : at + 8] = struct.pack("<d", chance.choice(_REAL))


def _word(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at : at + chance.choice((0, 1, 4))] = chance.choice(_WORDS)


def _digits(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    """In the place of a number in a text."""
    places = [at for at in range(len(data)) if 48 <= data[at] < 58] if len(data) < 10_000 else []
    if places:
        begin = end = chance.choice(places)
        while end < len(data) and (48 <= data[end] < 58 or data[end] in b".e-+"):
            end += 1
        data[begin:end] = chance.choice(_WORDS)


def _cut(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    del data[_place(chance, data) :]


def _remove(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at = _place(chance, data)
    del data[at : at + chance.randint(1, 64)]


def _repeat(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = data[at : at + chance.randint(1, 256)] * chance.choice((1, 2, 20))


def _splice(chance: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    other = chance.choice(originals)
    data[_place(chance, data) :] = other[chance.randint(0, len(other)) :]


_CHANGES: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...] = (
    *(_flip, _flip, _number, _number, _real, _word, _digits, _cut, _remove, _repeat, _splice),
)

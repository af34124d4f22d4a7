"""Copies a board's program so that the copy opens serial ports under qemu-user, which in Debian 12 knows the ioctls TCGETS and TCSETS and
not their successors.

Usage: python3 cross/serial_ports.py PROGRAM COPY

The copy differs in two numbers: it makes the old request where the program makes the new one. The new ones carry a baud rate of any
number, which means nothing to the pseudo terminals of the tests. The numbers are looked for as a compiler for ARM or for AArch64 writes
them, and what is not there exactly once is an error.
"""

import re
import shutil
import sys
from pathlib import Path

# TCGETS2 and TCSETS2, and what they succeeded. Source: ioctl_tty(2), asm-generic/ioctls.h.
OLDER = {0x802C542A: 0x5401, 0x402C542B: 0x5402}


def word(number):
    return number.to_bytes(4, "little")


def halves(number):
    """The two instructions that put it into the second argument of a function: `mov w1, …` and `movk w1, …, lsl #16`."""
    return word(0x52800001 | (number & 0xFFFF) << 5), word(0x72A00001 | number >> 16 << 5)


def ask_for(older, newer, program):
    for_arm, in_arm = re.subn(re.escape(word(newer)), lambda _: word(older), program)
    (low, high), (old_low, old_high) = halves(newer), halves(older)
    apart = re.escape(low) + b"((?:.{4}){0,4}?)" + re.escape(high)
    for_arm64, in_arm64 = re.subn(apart, lambda found: old_low + found[1] + old_high, program, flags=re.DOTALL)
    if in_arm + in_arm64 != 1:
        sys.exit(f"cross/serial_ports.py: {sys.argv[1]} has {newer:#x} {in_arm + in_arm64} times; it is looked for once")
    return for_arm if in_arm else for_arm64


def main():
    program, copy = sys.argv[1:]
    code = Path(program).read_bytes()
    for newer, older in OLDER.items():
        code = ask_for(older, newer, code)
    Path(copy).write_bytes(code)
    shutil.copymode(program, copy)


main()

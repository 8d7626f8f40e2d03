"""Ids are told apart by these digits alone, across threads and processes."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

from rheostat.data.randomness import DIGITS, random_hex


def _some(number):
    return [random_hex() for _ in range(number)]


def test_digits_are_hexadecimal_and_never_the_same():
    drawn = _some(5_000)
    assert all(len(digits) == DIGITS and int(digits, 16) >= 0 for digits in drawn)
    assert len(set(drawn)) == len(drawn)


def test_threads_never_get_the_same():
    with ThreadPoolExecutor(8) as pool:
        drawn = [digits for some in pool.map(_some, [2_000] * 16) for digits in some]
    assert len(set(drawn)) == len(drawn)


def test_a_forked_process_does_not_give_out_what_its_parent_does():
    random_hex()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        theirs = [digits for some in pool.map(_some, [600, 600], chunksize=1) for digits in some]
    assert len(set(theirs + _some(600))) == 1_800

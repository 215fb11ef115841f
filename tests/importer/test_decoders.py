"""The pool of decoder processes survives what its pictures do to it."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from importer.decoders import Decoders
from importer.problems import RefusedError
from tests.fixtures.pictures import SIZE, encoded, jpeg, photo, rotated_jpeg

DEADLINE = 20.0


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "importer.decoder" in " ".join(child.cmdline())
    ]


def stop_when_one_works(signum: signal.Signals) -> None:
    """Send a signal to the first decoder that appears."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        for child in children():
            os.kill(child.pid, signum)
            return
        time.sleep(0.005)


def test_a_picture_is_described_upright() -> None:
    with Decoders(max_pixels=10_000, thumbnail_size=20, count=1) as decoders:
        verified = decoders.verify(rotated_jpeg(6))
    assert (verified.width, verified.height) == (SIZE[1], SIZE[0])
    assert verified.format == "JPEG"
    assert verified.thumbnail.startswith(b"\xff\xd8\xff")
    assert children() == []


def test_many_threads_share_a_few_decoders() -> None:
    pictures = [jpeg(seed) for seed in range(40)]
    with (
        Decoders(max_pixels=10_000, thumbnail_size=20, count=2) as decoders,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(decoders.verify, pictures))
        assert len(children()) == 2
    with Decoders(max_pixels=10_000, thumbnail_size=20, count=1) as alone:
        assert found == [alone.verify(picture) for picture in pictures]


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, "decoder_died"), (signal.SIGSTOP, "decoder_stalled")]
)
def test_a_death_and_a_stall_cost_one_picture_only(signum: signal.Signals, code: str) -> None:
    with Decoders(max_pixels=10_000, thumbnail_size=20, count=1, patience=2.0) as decoders:
        attacker = threading.Thread(target=stop_when_one_works, args=(signum,))
        attacker.start()
        with pytest.raises(RefusedError) as caught:
            decoders.verify(jpeg())
        attacker.join()
        assert caught.value.refusal.code == code
        assert decoders.verify(jpeg()).width == SIZE[0]
    assert children() == []


def test_a_picture_that_claims_gigabytes_does_not_get_them() -> None:
    claims = bytearray(encoded(photo(), "WEBP", lossless=True))
    # A lossless WebP says width and height less one in 14 bits each: 16,383 x 16,383 here.
    claims[21:25] = (16_382 | 16_382 << 14).to_bytes(4, "little")
    with Decoders(max_pixels=10_000, thumbnail_size=20, count=1) as decoders:
        decoders.verify(jpeg())
        with pytest.raises(RefusedError) as caught:
            decoders.verify(bytes(claims))
        (child,) = children()
        assert child.memory_info().rss < 200_000_000
    assert caught.value.refusal.code == "too_many_pixels"


def test_decoders_end_when_their_parent_is_killed() -> None:
    program = (
        "import sys\n"
        "from importer.decoders import Decoders\n"
        "with Decoders(max_pixels=10_000, thumbnail_size=20, count=2) as decoders:\n"
        "    decoders.verify(bytes.fromhex(sys.argv[1]))\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, jpeg(size=(16, 16)).hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        orphans = psutil.Process(parent.pid).children()
        assert orphans
        parent.kill()
    assert psutil.wait_procs(orphans, timeout=DEADLINE)[1] == []

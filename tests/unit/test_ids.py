"""Record and request ids."""

from __future__ import annotations

import os
import threading
from uuid import RFC_4122, UUID

from jwt_audit.ids import new_id


def test_an_id_is_a_random_uuid_in_its_usual_form() -> None:
    """Version 4 and the variant of RFC 9562, whichever bits were drawn."""
    for _ in range(1000):
        text = new_id()
        found = UUID(text)
        assert (found.version, found.variant) == (4, RFC_4122)
        assert str(found) == text


def test_threads_never_get_the_same_id() -> None:
    """Also when several find none ready at once."""
    drawn: list[str] = []

    def draw() -> None:
        drawn.extend(new_id() for _ in range(2000))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 8000


def test_a_forked_child_hands_out_none_of_its_parents() -> None:
    """What the parent has drawn ahead stays the parent's."""
    new_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(new_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as file:
        theirs = set(file.read().split())
    assert len(theirs) == 100
    assert not theirs & {new_id() for _ in range(100)}

"""Queue triggers and outputs against Azurite: the whole way of a message, poison, leases, killed and stopped hosts."""

import base64

import pytest

from .conftest import StartHost, Storage
from .process import HostProcess, wait_for

pytestmark = pytest.mark.azurite


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_from_an_http_call_through_two_queues(start_host: StartHost, storage: Storage) -> None:
    host = start_host(storage=storage.connection_string, settings=storage.settings).ready()
    assert host.call("POST", "/api/order", b"one").status == 202
    assert host.call("POST", "/api/order", b'["two", "three"]').status == 202
    facts = host.wait_for_facts("order", 3)
    assert sorted(fact["body"] for fact in facts) == ["one", "three", "two"]
    assert {fact["dequeue_count"] for fact in facts} == {1}
    assert all(fact["inserted"] != "None" for fact in facts)
    wait_for(lambda: storage.count("shipped") == 3, "three shipped messages")
    contents = sorted(message.content for message in storage.queue("shipped").peek_messages(3))
    assert contents == sorted(encoded(f"shipped {word}") for word in ("one", "two", "three"))
    wait_for(lambda: storage.count("orders") == 0, "an empty queue")
    assert host.stop() == 0


def test_a_message_that_always_fails_goes_to_the_poison_queue(start_host: StartHost, storage: Storage) -> None:
    orders = storage.queue("orders", create=True)
    orders.send_message(encoded("bad"))
    orders.send_message("not base64!")
    orders.send_message(encoded("good"))
    host = start_host(storage=storage.connection_string, settings=storage.settings).ready()
    wait_for(lambda: storage.count("orders-poison") == 2, "two poison messages")
    assert sorted(message.content for message in storage.queue("orders-poison").peek_messages(2)) == sorted(
        [encoded("bad"), "not base64!"]
    )
    wait_for(lambda: storage.count("orders") == 0, "an empty queue")
    tries = [fact["dequeue_count"] for fact in host.facts("order") if fact["body"] == "bad"]
    assert tries == [1, 2, 3]
    assert "is not base64" in host.log()


def test_a_lease_is_renewed_while_the_function_runs(start_host: StartHost, storage: Storage) -> None:
    slow = storage.queue("slow", create=True)
    slow.send_message(encoded("x"))
    host = start_host("--queue-lease-s", "1", storage=storage.connection_string, settings=storage.settings).ready()
    host.wait_for_facts("slow")
    # More than two leases, counted by the host's own timer.
    seconds = len(host.facts("second"))
    host.wait_for_facts("second", seconds + 3)
    host.release()
    host.wait_for_facts("slow done")
    wait_for(lambda: storage.count("slow") == 0, "the deletion")
    assert [fact["dequeue_count"] for fact in host.facts("slow")] == [1]


def test_a_killed_host_gives_its_message_to_the_next(start_host: StartHost, storage: Storage) -> None:
    slow = storage.queue("slow", create=True)
    slow.send_message(encoded("x"))
    arguments = ("--queue-lease-s", "1")
    first = start_host(*arguments, storage=storage.connection_string, settings=storage.settings).ready()
    first.wait_for_facts("slow")
    first.kill()
    second = start_host(*arguments, storage=storage.connection_string, settings=storage.settings).ready()
    second.release()
    second.wait_for_facts("slow done")
    assert [fact["dequeue_count"] for fact in second.facts("slow")] == [1, 2]
    wait_for(lambda: storage.count("slow") == 0, "the deletion")
    assert second.stop() == 0


def test_no_message_is_lost_by_hosts_killed_while_they_work(start_host: StartHost, storage: Storage) -> None:
    orders = storage.queue("orders", create=True)
    bodies = [f"order {number}" for number in range(24)]
    expected = {encoded(f"shipped {body}") for body in bodies}
    for body in bodies:
        orders.send_message(encoded(body))

    shipped: set[str] = set()

    def all_shipped() -> bool:
        if storage.count("shipped"):
            queue = storage.queue("shipped")
            for message in queue.receive_messages(messages_per_page=32):
                shipped.add(message.content)
                queue.delete_message(message)
        return shipped == expected

    def start() -> HostProcess:
        arguments = ("--queue-lease-s", "1")
        return start_host(*arguments, storage=storage.connection_string, settings=storage.settings).ready()

    # maxDequeueCount is 3: two kills leave every message one try.
    for kill_after in (3, 9):
        host = start()
        host.wait_for_facts("order", kill_after)
        host.kill()
    start()
    wait_for(all_shipped, "every order shipped")
    wait_for(lambda: storage.count("orders") == 0, "an empty queue")
    assert storage.count("orders-poison") == 0


def test_a_stopped_host_releases_what_it_cannot_finish(start_host: StartHost, storage: Storage) -> None:
    """With Azure's lease of ten minutes: the message is visible at once because it was given back."""
    slow = storage.queue("slow", create=True)
    slow.send_message(encoded("x"))
    host = start_host("--grace-s", "0.2", storage=storage.connection_string, settings=storage.settings).ready()
    host.wait_for_facts("slow")
    assert host.stop() == 1, "work was abandoned"
    assert "functions still running: slow" in host.log()
    assert [message.content for message in slow.receive_messages()] == [encoded("x")]
    assert host.facts("slow done") == []


def test_a_queue_function_by_hand(start_host: StartHost, storage: Storage) -> None:
    host = start_host("--no-triggers", storage=storage.connection_string, settings=storage.settings).ready()
    master = {"x-functions-key": host.keys["master"]}
    assert host.call("POST", "/admin/functions/ship", b'{"input": "by hand"}', master).status == 202
    (fact,) = host.wait_for_facts("order")
    assert (fact["body"], fact["dequeue_count"]) == ("by hand", None)
    wait_for(lambda: storage.count("shipped") == 1, "the output")

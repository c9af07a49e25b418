"""dramatiq with Redis; it publishes one message at a time, and blocks."""

from concurrent.futures import ThreadPoolExecutor

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from meter import BODY, URL, hit, main

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor
def send(message: dict) -> None:
    hit()


def one(count: int):
    send.send(BODY)
    yield
    for _ in range(count):
        send.send(BODY)


def concurrent(count: int):
    send.send(BODY)
    yield
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: send.send(BODY), range(count)))


if __name__ == "__main__":
    main(bulk=one, concurrent=concurrent, one=one)

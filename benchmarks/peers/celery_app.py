"""celery with Redis: acknowledged late, no results, one producer kept."""

from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from meter import BODY, URL, hit, main

app = Celery("celery_app", broker=URL)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=16,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="send")
def send(message: dict) -> None:
    hit()


def one(count: int):
    with app.producer_or_acquire() as producer:
        send.apply_async((BODY,), producer=producer)
        yield
        for _ in range(count):
            send.apply_async((BODY,), producer=producer)


def concurrent(count: int):
    send.delay(BODY)
    yield
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: send.delay(BODY), range(count)))


if __name__ == "__main__":
    main(bulk=one, concurrent=concurrent, one=one)

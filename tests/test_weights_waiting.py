import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from zoo.weights.waiting import answered_within, requested_pause


def test_an_answer_in_time():
    assert answered_within(5, lambda: 7) == 7


def test_an_error_in_time():
    with pytest.raises(KeyError, match="x"):
        answered_within(5, lambda: {}["x"])


def test_no_answer_in_time():
    start, end = time.monotonic(), threading.Event()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        answered_within(0.05, lambda: end.wait(10))
    assert time.monotonic() - start < 2
    end.set()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"api";r=10;t=55'}, None),
        ({"RateLimit": "nonsense"}, None),
        ({"Retry-After": "3", "RateLimit": '"api";r=0;t=55'}, 3),
    ],
)
def test_the_pause_that_a_server_asks_for(headers, seconds):
    assert requested_pause(headers) == seconds


def test_a_pause_until_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < requested_pause({"Retry-After": date}) <= 90

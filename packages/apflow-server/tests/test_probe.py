import httpx
from serving import Served


def test_the_process_says_that_it_lives(http: httpx.Client):
    answer = http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_it_is_ready_while_the_store_answers_and_not_when_it_does_not(http: httpx.Client, served: Served):
    assert http.get("/ready").status_code == 200
    served.db.get = None  # type: ignore[method-assign, assignment]
    answer = http.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "store unreachable"})


def test_who_asks_for_the_head_alone_is_answered(http: httpx.Client):
    for path in ("/health", "/ready"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_it_is_not_ready_once_it_drains(http: httpx.Client, served: Served):
    served.app.state.drain.begin()
    assert http.get("/ready").json() == {"status": "draining"}

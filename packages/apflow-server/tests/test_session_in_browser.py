"""A session in a real browser: what its page may do with the cookie, and what a page of another port may not.

The pages are small ones of this test. They say what they found through what they are allowed to call.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from pages import TIMEOUT, write_page
from peers import required
from serving import SECRET, bearer, serving, wait_for

from apflow.core.settings import Settings

# The address has the token and, after it, the address of another page, in the fragment.
OWN = """
const [token, other] = location.hash.slice(1).split("|");
history.replaceState(null, "", location.pathname);
const found = {address: location.href};
const call = (method, params, headers = {}) => fetch("../tasks", {
  method: "POST",
  headers: {"Content-Type": "application/json", ...headers},
  body: JSON.stringify({jsonrpc: "2.0", id: 1, method, params}),
});
async function main() {
  const begun = await fetch("./session", {method: "POST", headers: {Authorization: `Bearer ${token}`}});
  const header = {"X-CSRF-Token": (await begun.json()).csrf};
  found.cookie = document.cookie;
  found.without = (await call("tasks.list", {})).status;
  const made = await (await call("tasks.create", {name: "watched"}, header)).json();
  found.event = await new Promise((resolve, reject) => {
    const events = new EventSource(`../tasks/${made.result.id}/events`);
    events.addEventListener("snapshot", () => { events.close(); resolve("snapshot"); });
    events.onerror = () => reject(new Error("no events"));
  });
  try { await fetch(other); found.elsewhere = "reached"; } catch (error) { found.elsewhere = "refused"; }
  try { new Function("return 1")(); found.code = "made"; } catch (error) { found.code = "refused"; }
  await call("tasks.create", {name: "own page", inputs: found}, header);
  location.href = other;
}
main().catch((error) => { document.title = String(error); });
"""
FOREIGN = """<!doctype html><title>another page</title><script>
const found = {};
const call = {jsonrpc: "2.0", id: 1, method: "tasks.create", params: {name: "forged"}};
async function main() {
  const own = (path, options) => fetch("SERVER" + path, {credentials: "include", ...options});
  try { found.session = await (await own("/ui/session")).text(); }
  catch (error) { found.session = "refused"; }
  for (const type of ["text/plain", "application/json"]) {
    const headers = {"Content-Type": type};
    try { await own("/tasks", {method: "POST", mode: "no-cors", headers, body: JSON.stringify(call)}); }
    catch (error) { found[type] = String(error); }
  }
  found.cookie = document.cookie;
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
}
main();
</script>"""


@contextmanager
def foreign_page(server: str) -> Generator[tuple[str, list[Any]]]:
    """Serve a page at another port that tries to use the session of a server; yield what it found."""
    found: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(FOREIGN.replace("SERVER", server).encode())

        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, name="foreign page")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/", found
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextmanager
def browser(folder: Path, address: str) -> Generator[None]:
    """Open an address in a browser with a new profile."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    command = [
        required.program(*required.BROWSERS),
        *options,
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        address,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_page_uses_its_session_and_a_page_of_another_port_cannot(tmp_path: Path):
    with serving(Settings(jwt_secret=SECRET)) as served, foreign_page(served.url) as (other, found):
        served.app.state.page_folder = write_page(tmp_path / "static", OWN)
        headers = bearer("ann")
        token = headers["Authorization"].removeprefix("Bearer ")
        with httpx.Client(base_url=served.url, headers=headers, timeout=TIMEOUT) as ann:

            def tasks(name: str) -> list[Any]:
                answer = ann.post("/call/tasks.list", json={"name": name})
                return list(answer.json())

            with browser(tmp_path / "profile", f"{served.url}/ui/#{token}|{other}"):
                wait_for(lambda: found, TIMEOUT * 2)
            [own] = [each["inputs"] for each in tasks("own page")]
            assert tasks("forged") == []
    assert own == {
        "address": f"{served.url}/ui/",
        "cookie": "",
        "without": 403,
        "event": "snapshot",
        "elsewhere": "refused",
        "code": "refused",
    }
    assert found[0]["session"] == "refused"
    assert found[0]["cookie"] == ""

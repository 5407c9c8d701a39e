"""What surrounds the blocks of a page: a reader has it, and the page does not repeat it.

A page without an entry runs as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Frame:
    """The surroundings of a page's blocks, in bash (see `documents.place` for its functions).

    Attributes:
        before: what is run before the first block.
        between: what is run before the block that contains a string.
        values: what is written in place of a placeholder of the page, such as the host `example.com`.
        after: what is run after the last block: it shows what the blocks have done.
        elsewhere: the test that runs the block that contains a string. "" is each block that is not named.
        not_run: why nothing here can run the block that contains a string.
    """

    before: str = ""
    between: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    after: str = ""
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])
    not_run: Mapping[str, str] = field(default_factory=dict[str, str])


EXECUTORS = '''cat > my_executors.py <<'END'
import asyncio
from pathlib import Path

from apflow.core import BaseTask, executor_register


@executor_register()
class Part(BaseTask):
    """Returns at once."""

    id = "part"

    async def execute(self, inputs):
        return {"done": True}


@executor_register()
class Odd(BaseTask):
    """Fails until the user has repaired the cause."""

    id = "odd"

    async def execute(self, inputs):
        if not Path("repaired").exists():
            raise ValueError("as asked")


@executor_register()
class Slow(BaseTask):
    """Waits until it is cancelled, or a file exists."""

    id = "slow"

    async def execute(self, inputs):
        while not Path("go").exists():
            await asyncio.sleep(0.05)
END
export APFLOW_IMPORT=my_executors
'''
TREE = """cat > {file} <<'END'
[{{"id": "{root}", "name": "{root}"}}, {{"id": "{root}-1", "name": "{child}", "parent_id": "{root}"}}]
END
"""


def tree(file: str, *, root: str = "nightly", child: str = "part") -> str:
    """Write a tree of two tasks to a file."""
    return TREE.format(file=file, root=root, child=child)


def ran(file: str, status: int = 0) -> str:
    """Run the tree of a file, which ends with an exit status."""
    return f"gives {status} apflow run flow --tasks-file {file}\n"


COMPLETED = "waits 'apflow tasks list --status completed -o id | grep . > /dev/null'\n"
POSTGRES = {"postgresql://user@db.example.com/apflow": "$POSTGRES"}

FRAMES: dict[str, Frame] = {
    "how-to/back-up-and-move-a-database": Frame(
        before=EXECUTORS + tree("tree.json") + ran("tree.json"),
        values=POSTGRES,
        after="test -s backups/apflow-2026-11-29.duckdb; apflow tasks get nightly",
    ),
    "how-to/call-agents": Frame(after="apflow executors list | grep ^translator > /dev/null"),
    "how-to/call-executors-on-dask": Frame(
        values={
            "dask scheduler": "background dask scheduler --host 127.0.0.1 --port $RECEIVER --no-dashboard",
            "dask worker tcp": "background dask worker --host 127.0.0.1 --no-dashboard tcp",
            "scheduler.example.com:8786": "127.0.0.1:$RECEIVER",
        },
        after='apflow run flow system_info_executor --inputs \'{"resource": "cpu"}\'',
    ),
    "how-to/complete-commands": Frame(
        before="mkdir -p ~/.config/fish/completions; command -v man || man() { cat; }",
        after="bash -c 'source ~/.bashrc; complete -p apflow'\n"
        "test -s ~/.local/share/man/man1/apflow-tasks-list.1",
    ),
    "how-to/connect-mcp-clients": Frame(
        not_run={
            "claude mcp add": "Claude Code is a program of another vendor, for users with an account",
            "npx @modelcontextprotocol/inspector": "the inspector is downloaded from npm",
        },
    ),
    "how-to/embed": Frame(elsewhere={"": "test_embedding.py"}),
    "how-to/ask-for-an-approval": Frame(
        before="""cat > release.yaml <<'END'
- id: ask
  name: approval_executor
  inputs:
    question: May this build be released?
    form: {properties: {window: {type: string, enum: [day, night]}}, required: [window]}
END
background apflow worker
apflow run flow --tasks-file release.yaml --background
waits 'apflow approvals list | grep ask > /dev/null'
""",
        after="waits 'apflow tasks get ask | grep completed > /dev/null'",
    ),
    "how-to/follow-trees-from-outside": Frame(
        before=EXECUTORS + tree("nightly.yaml") + ran("nightly.yaml") + "receiver; serving apflow serve",
        between={"--webhook": "ended apflow", "APFLOW_WEBHOOK_URL": "rm received"},
        values={
            "TASK_ID": "nightly",
            "curl -N http://127.0.0.1:8000/follow": "gives 124 timeout 3 curl -N http://127.0.0.1:8000/follow",
            "https://example.com": "http://127.0.0.1:$RECEIVER",
            "whsec_...": "whsec_c2VjcmV0IGJ5dGVzIG9mIGEgd2ViaG9vaw==",
        },
        after=ran("nightly.yaml") + "waits 'grep -q tree_completed received'",
    ),
    "how-to/generate-trees": Frame(
        before=EXECUTORS, after="apflow tasks list --status completed | grep merged"
    ),
    "how-to/keep-secrets-out-of-tasks": Frame(
        before=EXECUTORS
        + """cat > tree.json <<'END'
[{"name": "odd", "inputs": {"token": {"$secret": "RATES_TOKEN"}}}]
END
touch repaired""",
    ),
    "how-to/limit-how-often-tasks-run": Frame(
        not_run={"apflow tasks why 0d8a4c51": "the task waits only while others of its limit run"},
    ),
    "how-to/limit-what-models-spend": Frame(
        before=EXECUTORS
        + """cat > research.json <<'END'
[{"id": "research", "name": "research", "budget": {"usd": 2.5, "calls": 200, "on_exceed": "wait"}},
 {"id": "summary", "name": "part", "parent_id": "research"}]
END
"""
        + ran("research.json"),
        after="apflow tasks budget research --json | grep '\"usd\": 5' > /dev/null",
    ),
    "how-to/limit-where-tasks-connect": Frame(after="apflow doctor"),
    "how-to/move-from-aipartnerupflow": Frame(
        values={"cd packages\n": "", "./aipartnerupflow": "aipartnerupflow", "./apflow-": "apflow-"},
        elsewhere={"apflow db import": "test_import.py"},
    ),
    "how-to/read-what-tasks-log": Frame(
        before="""export APFLOW_IMPORT=page
apflow run flow import_orders --inputs '{"file": "a.csv"}'
serving apflow serve""",
        values={"TASK_ID": "$(apflow tasks list --all -o id)"},
        after="apflow logs $(apflow tasks list --all -o id) | grep 'reading a.csv' > /dev/null",
    ),
    "how-to/recover": Frame(
        before=EXECUTORS + tree("tree.json", root="ID", child="odd") + ran("tree.json", 1),
        between={"apflow tasks execute ID": "touch repaired"},
        after="apflow tasks list --status completed -o id | grep -x ID > /dev/null",
    ),
    "how-to/plan-a-tree": Frame(
        before="""cat > nightly.yaml <<'END'
- {id: nightly, name: nightly}
- id: fetch
  name: fetch
  parent_id: nightly
  schemas: {method: rest_executor}
  inputs: {url: https://api.example.com/orders, headers: {X-Key: {$secret: API_KEY}}}
- id: sum
  name: sum
  parent_id: nightly
  dependencies: [fetch]
  schemas: {method: aggregate_results_executor}
END
""",
        values={"apflow plan nightly.yaml": "gives 2 apflow plan nightly.yaml"},  # the secret is not set
    ),
    "how-to/run-on-kubernetes": Frame(elsewhere={"": "test_kubernetes.py"}),
    "how-to/run-on-several-hosts": Frame(
        elsewhere={"": "test_deployment.py", "apflow worker --resources": "test_placement.py"}
    ),
    "how-to/run-on-a-schedule": Frame(
        before=EXECUTORS + "".join(tree(f"{name}.yaml", root=name) for name in ("report", "poll", "migrate")),
        values={"2026-12-24T18:00": "$(date --date '1 day' +%Y-%m-%dT%H:%M)"},
        after="apflow tasks list --all -o id | grep .",
    ),
    "how-to/run-a-program": Frame(before="echo a file > README.md"),
    "how-to/export-trees": Frame(
        before=EXECUTORS + tree("tree.json", root="ROOT_ID") + ran("tree.json"),
        after="grep -q apflow-run nightly.html; test -s apflow-run-ROOT_ID.html",
    ),
    "how-to/run-behind-nginx": Frame(elsewhere={"": "test_behind_nginx.py"}),
    "how-to/run-in-a-container": Frame(elsewhere={"": "test_container_image.py"}),
    "how-to/run-in-the-background": Frame(
        before=EXECUTORS + tree("tree.yaml"),
        values={"apflow daemon logs --follow": "gives 124 timeout 3 apflow daemon logs --follow"},
        after="apflow worker --help > /dev/null",
    ),
    "how-to/run-under-systemd": Frame(elsewhere={"": "test_deployment.py"}),
    "how-to/see-what-runs": Frame(
        before=EXECUTORS
        + tree("slow.json", root="7e204cb6", child="slow")
        + tree("big.json", root="big", child="odd")
        + ran("big.json", 1)
        + "APFLOW_BACKGROUND_DAEMON=false apflow run flow --tasks-file slow.json --background\n"
        + "background apflow worker\n"
        + "waits 'apflow ps -o id | grep 7e20 > /dev/null'\n",
        between={"xargs": "touch repaired"},
        values={
            "apflow watch           ": "background apflow watch ",
            "apflow watch 7e204cb6 ": "background apflow watch 7e204cb6 ",
            "apflow logs 7e204cb6 -f ": "background apflow logs 7e204cb6 -f ",
        },
        after="apflow tasks list --status cancelled -o id | grep -x 7e204cb6 > /dev/null",
    ),
    "how-to/serve": Frame(
        before=EXECUTORS,
        between={
            "apflow tasks list          # sent": "ended apflow",
            "apflow serve --host 0.0.0.0": "ended apflow",
            "apflow login": "TOKEN=$(apflow config gen-token --user-id ann)",
        },
        values={
            "export APFLOW_JWKS_URL=": "# ",
            "--host 0.0.0.0": "",
            "apflow login https://apflow.example ": 'echo "$TOKEN" | apflow login http://127.0.0.1:$PORT ',
            "https://apflow.example": "http://127.0.0.1:$PORT",
        },
    ),
    "how-to/share-postgresql": Frame(
        before=EXECUTORS + tree("tree.json"),
        values=POSTGRES,
        after="apflow run flow --tasks-file tree.json --background\n" + COMPLETED,
    ),
    "how-to/submit-work": Frame(before=EXECUTORS + tree("tree.yaml"), after=COMPLETED),
    "how-to/test-plugins": Frame(after="pytest -q page.py"),
    "how-to/test-your-store": Frame(
        values={"--minutes 5": "--minutes 0.05"},
        not_run={"--minutes 60": "an hour on a server; faults/test_torture.py runs a shorter one"},
    ),
    "how-to/test-your-trees": Frame(after="pytest -q page.py"),
    "how-to/upgrade": Frame(
        before=EXECUTORS + tree("tree.json") + ran("tree.json"),
        between={"mv apflow.duckdb": "apflow daemon stop; cp apflow.duckdb apflow.duckdb.version-10"},
        after="apflow tasks get nightly",
    ),
    "how-to/use-mcp-servers": Frame(elsewhere={"npm install": "test_mcp_example.py"}),
    "how-to/use-the-page": Frame(
        values={"apflow ui": "background apflow ui --no-open"},
        after="apflow tasks list; ended apflow",
    ),
    "how-to/use-one-database-in-several-terminals": Frame(
        before=EXECUTORS
        + tree("tree.yaml", root="7e204cb6", child="slow")
        + tree("other.yaml", root="other"),
        values={
            "apflow run flow --tasks-file tree.yaml ": "background apflow run flow --tasks-file tree.yaml ",
            "apflow tasks list ": "waits 'apflow ps -o id | grep 7e20 > /dev/null'; apflow tasks list ",
            "apflow tasks watch 7e204cb6": "background apflow tasks watch 7e204cb6",
        },
        after="apflow tasks list --status completed -o id | grep -x other > /dev/null",
    ),
    "how-to/write-an-executor": Frame(
        elsewhere={"acme_count_lines": "test_plugin_from_wheels.py"},
        after="apflow executors list | grep ^count_lines > /dev/null",
    ),
    "tutorial/a-session": Frame(elsewhere={"": "test_recorded_session.py"}),
    "tutorial/agent-with-tools": Frame(
        between={
            "apflow tasks why": "export APFLOW_DATABASE_URL=duckdb:///agent.duckdb\n"
            "ID=$(apflow tasks list --status failed --name agent -o id)"
        },
        values={
            "tasks why ID": "tasks why $ID",
            "usage ID": "usage $ID",
            "tasks budget ID": "tasks budget $ID",
        },
    ),
    "tutorial/laptop-to-server": Frame(elsewhere={"": "test_tutorial_of_servers.py"}),
    "tutorial/nightly-etl": Frame(
        # The functions of the page in a file, as it says: without the last line, and without its checks.
        before="sed '/^outcome = /,$d' page.py > my_tasks.py",
        after="test -s today.json",
    ),
}


def frame_of(page: str) -> Frame:
    """Return the frame of a page by its path in the repository."""
    return FRAMES.get(page.removeprefix("docs/").removesuffix(".md"), Frame())

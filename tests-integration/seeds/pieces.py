"""Runs pieces of Python one after the other, as one program: `python pieces.py FILE ...`.

The documents print pieces that await at the top, and use names that another piece defined.
"""

import ast
import asyncio
import inspect
import sys
from pathlib import Path


async def main(paths: list[str]) -> None:
    namespace: dict[str, object] = {"__name__": "pieces"}
    for path in paths:
        code = compile(Path(path).read_text(), path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, namespace)
        if inspect.iscoroutine(running):
            await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

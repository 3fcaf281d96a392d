"""The messages in docs/limitations.md are those that are printed."""

from __future__ import annotations

import contextlib
import io
import linecache
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def test_messages_in_the_documentation(tmp_path):
    page = (ROOT / "docs" / "limitations.md").read_text()
    code, printed = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)\n```", page, re.S).groups()
    (tmp_path / "example.py").write_text(code)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "example.py")], capture_output=True, text=True, cwd=ROOT
    )
    assert run.stdout.replace(f"{tmp_path}/", "").strip() == printed, run.stderr


def test_explanations_in_the_documentation(monkeypatch):
    page = (ROOT / "docs" / "limitations.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.S)
    ((code, printed),) = (block for block in blocks if "jscg.explain" in block[0])
    lines = code.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, "model.py", (len(code), None, lines, "model.py"))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "model.py", "exec"), {})
    assert out.getvalue() == printed

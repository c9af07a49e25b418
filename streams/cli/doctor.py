"""``streams doctor``: what is wrong with the server and its streams, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.common import AsJson, Namespace, Url, cell, connected, examples, finish, run, say, stdout, write_json
from streams.cli.exit_codes import Exit
from streams.doctor import Doctor, Finding

HELP = (
    "Look for what is wrong with the server and its streams; each finding says what to do."
    "\n\nRead only, and safe on a busy server. The exit code is for cron: 0 nothing that needs you, 1 warnings, 2"
    " something critical. What the user may not ask (managed servers often refuse CONFIG) is told as unknown."
    + examples("streams doctor", "streams doctor --stream orders", "streams doctor --json | jq '.findings[].code'")
)
_STYLE = {"critical": "bold red", "warning": "yellow", "unknown": "magenta", "info": "dim"}


def doctor(
    *,
    stream: Annotated[str, typer.Option(help="Only this stream, besides the server.", show_default=False)] = "",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Examine; see HELP."""

    async def main() -> list[Finding]:
        async with connected(url, namespace) as pipeline:
            return await Doctor(pipeline.broker).examine(stream)

    findings = run(main)
    if as_json:
        write_json({"findings": [finding.as_plain() for finding in findings]})
    else:
        _print(findings)
    severities = {finding.severity for finding in findings}
    finish(Exit.USAGE if "critical" in severities else Exit.FAILED if "warning" in severities else Exit.OK)


def _print(findings: list[Finding]) -> None:
    if not findings:
        say("nothing is wrong")
    out = stdout()
    for finding in findings:
        style = _STYLE.get(finding.severity, "green")
        head = f"[{style}]{finding.severity:<8}[/] [bold]{cell(finding.where)}[/] {cell(finding.code)}"
        out.print(f"{head}: {cell(finding.what)}", soft_wrap=True)
        if finding.todo:
            out.print(f"         [dim]{cell(finding.todo)}[/]", soft_wrap=True)

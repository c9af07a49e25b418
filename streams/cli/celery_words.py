"""Words that users of Celery type from habit, and their names here. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, str] = {
    "purge": "'streams groups drop STREAM GROUP' gives up what a group still has to "
    "do, 'streams dead discard STREAM "
    "GROUP --all' deletes dead letters, 'streams cancel STREAM ID' takes out single events",
    "inspect": "'streams workers --in-hand' shows what runs, 'streams ls' what "
    "waits, 'streams show STREAM ID' "
    "where one event stands",
    "status": "'streams workers' shows who works, 'streams health' asks one worker",
    "control": "'streams pause', 'streams resume', 'streams cancel' and 'streams "
    "limits' act on what runs",
    "revoke": "'streams cancel STREAM ID' takes out an event that has not started",
    "call": "'streams publish STREAM --type TYPE --data JSON' publishes an event",
    "result": "'streams show STREAM ID' tells where an event stands",
    "events": "'streams top' shows what goes on, 'streams dashboard' serves it as pages",
    "flower": "'streams dashboard' serves the pages for operators",
    "beat": "every worker brings the scheduler: start 'streams worker MODULE:NAME'",
    "multi": "'streams worker MODULE:NAME --processes 4' runs several processes",
    "list": "'streams ls' shows the streams",
}
"""Commands that do not exist here."""
OPTIONS: Mapping[str, str] = {
    "-A": "the pipeline is the argument of the command: streams worker MODULE:NAME",
    "--app": "the pipeline is the argument of the command: streams worker MODULE:NAME",
    "-c": "write --concurrency",
    "-l": "write --log-level",
    "--loglevel": "write --log-level",
    "-Q": "a worker serves what its pipeline declares; --levels narrows that to priority levels",
    "--queues": "a worker serves what its pipeline declares; --levels narrows that "
    "to priority levels",
    "-P": "handlers are coroutines, or run in threads; --processes runs several processes",
    "--pool": "handlers are coroutines, or run in threads; --processes runs several processes",
    "--autoscale": "write --concurrency and --processes",
    "-B": "every worker brings the scheduler: leave it out",
    "--beat": "every worker brings the scheduler: leave it out",
    "-n": "workers name themselves: leave it out",
    "--hostname": "workers name themselves: leave it out",
}
"""Options that no command has here."""


def hints(arguments: Sequence[str]) -> list[str]:
    """A line for each word of Celery in a command line that was refused."""
    found: list[str] = []
    command = next((word for word in arguments if not word.startswith("-")), "")

    if command in COMMANDS:
        found.append(f"{command}: {COMMANDS[command]}")

    for word in arguments:
        if word == "--":
            break

        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name not in OPTIONS:
            continue

        line = f"{name}: {OPTIONS[name]}"
        if line not in found:
            found.append(line)

    return found

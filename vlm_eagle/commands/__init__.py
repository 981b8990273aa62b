"""The `vlm-eagle` command: `vlm-eagle COMMAND --options`. Each command is a module with `main`, `Config` and a text.

A module that has `start` as well reads its command line itself: `start(argv)` returns the exit code.
"""

import sys
from importlib import import_module
from keyword import iskeyword

from vlm_eagle.cli import USAGE, run_cli

GROUPS = {
    "Data": {
        "data": "make data of a recipe, or of a mix of them",
        "regenerate": "let the target rewrite the answers of conversations",
        "preview": "look at training samples, learned tokens in green",
        "data-report": "see what data holds: tokens, languages, what is dropped",
        "vocabulary": "choose a draft vocabulary by what it covers",
    },
    "Training": {
        "train": "train a draft; --dry-run says what that would need",
        "capture": "keep the target's hidden states, to train without its layers",
    },
    "Answers": {
        "generate": "answer one prompt, drafted and verified",
        "chat": "talk to a target, and see which words the draft guessed",
    },
    "Measuring": {
        "score": "acceptance length of drafts, in our loop or of a server",
        "speedup": "speed with drafts against without",
        "lossless": "show that drafting changes no answer",
        "report": "a page of results: tables, figures, every token",
        "benchmarks": "list the benchmarks, and show their prompts",
    },
    "Drafts and engines": {
        "doctor": "find out why a draft is accepted less than it should be",
        "import": "turn a draft made by others into a native draft directory",
        "export": "check a draft and write it, with a model card, for an engine",
        "serve-check": "compare an engine's answers and counts with ours",
    },
    "First steps": {
        "demo": "train the demo's draft and score it: minutes on two CPU cores",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


def main(program: str = "vlm-eagle") -> int:
    """Runs the command named first on the command line; the exit code. `program` is how the user called this."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        del sys.argv[1]
        return run(name, f"{program} {name}")
    if name and not name.startswith("-"):
        print(f"error: no command {name!r}.\n", file=sys.stderr)
    asked_for_help = name in ("--help", "-h")
    print(_page(program), file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else USAGE


def run(name: str, program: str | None = None) -> int:
    """Runs one command on the rest of the command line; the exit code. `program` is its name in help and results, by default
    the name of the script."""
    if program:
        sys.argv[0] = program
    command = import_module(f"vlm_eagle.commands.{name.replace('-', '_')}{'_' * iskeyword(name)}")
    if hasattr(command, "start"):
        return command.start(sys.argv[1:])
    return run_cli(command.main, command.Config, command.__doc__)


def _page(program: str) -> str:
    lines = [f"usage: {program} COMMAND [options]"]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:12} {text}" for name, text in group.items())]
    return "\n".join([*lines, "", f"{program} COMMAND --help lists a command's options."])

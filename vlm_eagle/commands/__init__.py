"""The `vlm-eagle` command: `vlm-eagle COMMAND --options`. Each command is a module with `main`, `Config` and a text."""

import sys
from importlib import import_module
from keyword import iskeyword

from vlm_eagle.cli import USAGE, run_cli

COMMANDS = {
    "chat": "talk to a target, and see which words the draft guessed",
    "doctor": "find out why a draft is accepted less than it should be",
    "preview": "look at training samples, learned tokens in green",
    "data-report": "see what data holds: tokens, languages, what is dropped and why",
    "vocabulary": "choose a draft vocabulary by what it covers",
    "import": "turn a draft made by others into a native draft directory",
    "export": "check a draft and write it, with a model card, for an engine",
}


def main() -> int:
    """Finds the command and hands it the rest of the command line."""
    names = [word for word in sys.argv[1:2] if word in COMMANDS]
    if not names:
        for unknown in sys.argv[1:2]:
            if not unknown.startswith("-"):
                print(f"error: there is no command {unknown!r}.\n", file=sys.stderr)
        lines = "\n".join(f"  {name:11} {text}" for name, text in COMMANDS.items())
        asked_for_help = sys.argv[1:2] in (["--help"], ["-h"])
        print(
            f"usage: vlm-eagle COMMAND [options]\n\n{lines}\n\nvlm-eagle COMMAND --help lists a command's options.",
            file=sys.stdout if asked_for_help else sys.stderr,
        )
        return 0 if asked_for_help else USAGE
    module = import_module(f"vlm_eagle.commands.{names[0].replace('-', '_')}{'_' * iskeyword(names[0])}")
    sys.argv = [f"vlm-eagle {names[0]}", *sys.argv[2:]]
    return run_cli(module.main, module.Config, module.__doc__)

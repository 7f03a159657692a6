"""`tbc schema`: the JSON Schema of contract files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tbcontracts.checks import without_folder
from tbcontracts.cli.output import json_option, say
from tbcontracts.errors import ConfigurationError


@click.command(short_help="Print the JSON Schema of contract files.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file instead.",
)
@json_option
def schema(output: Path | None, as_json: bool) -> None:  # noqa: ARG001 - it is JSON anyhow
    """Print the JSON Schema of contract files, by which editors complete and check them.

    The first line of a TOML file names it: #:schema ./tbcontracts.schema.json
    """
    from tbcontracts.config import json_schema  # slow to import, as pydantic is

    text = json.dumps(json_schema(), ensure_ascii=False, indent=2)
    if output is None:
        say(text)
        return
    if missing := without_folder(output):
        raise ConfigurationError(missing, remedy="What helps: make it, or another path.")
    output.write_text(f"{text}\n", encoding="utf-8")
    say(f"The schema is in {output}. It is named by a file's first line:")
    say(f"  TOML  #:schema {output}")
    say(f"  YAML  # yaml-language-server: $schema={output}")

"""One TOML file that describes a run: a table for each command, whose keys are its options.

The options of the commands are the schema, so that nothing has to be kept in step: a key is a
flag without its dashes, or the name of an argument.  What several commands share (the molecule, the
cluster) stands in a table of its own.  A flag on the command line overrides what the file says.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from openmm_cgan.cli.options import FILE, ForceFieldFile, SharedArgument, SharedOption

FOUND = "openmm_cgan.config"  # where a context keeps what was read
NOT_IN_FILES = ("help", "config", "version")

Key = tuple[str, str]  # table and name
Schema = dict[Key, click.Parameter]


def config_option() -> click.Option:
    """--config FILE, whose tables become the defaults of a command."""
    return click.Option(
        ["--config"], type=FILE, is_eager=True, expose_value=False, callback=_take_defaults,
        help="TOML file with these options (openmm-cgan init writes one); flags override it.",
    )  # fmt: skip


def key_of(parameter: click.Parameter, command: str) -> Key:
    """Table and name under which an option of a command stands in a file."""
    table = parameter.table if isinstance(parameter, SharedOption | SharedArgument) else command
    words = [word for word in parameter.opts if word.startswith("--")]
    name = max(words, key=len)[2:] if words else str(parameter.name)
    return table, name


def schema_of(commands: Mapping[str, click.Command]) -> Schema:
    """All that a file may hold."""
    return {
        key: parameter
        for name, command in commands.items()
        for parameter in command.params
        if (key := key_of(parameter, name))[1] not in NOT_IN_FILES and parameter.expose_value
    }


def told_of_file(error: click.UsageError) -> click.UsageError:
    """An error about an option, with file and line where its value came from a file."""
    parameter, context = getattr(error, "param", None), error.ctx
    if parameter is None or context is None or FOUND not in context.meta:
        return error
    source = context.get_parameter_source(parameter.name)
    if source is not click.core.ParameterSource.DEFAULT_MAP:
        return error
    path, text = context.meta[FOUND]
    key = key_of(parameter, str(context.command.name))
    return click.UsageError(f"{_place(path, text, key)}: {key[1]}: {error.message}", context)


def _take_defaults(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if path is None or context.resilient_parsing:
        return path
    root, own = context.find_root().command, context.command
    commands = root.commands if isinstance(root, click.Group) else {str(own.name): own}
    tables, text = read_tables(path, schema_of(commands))
    defaults = {}
    for parameter in own.params:
        table, name = key_of(parameter, str(own.name))
        if name in tables.get(table, {}):
            defaults[parameter.name] = _placed(parameter, tables[table][name], path.parent)
    context.default_map = defaults
    context.meta[FOUND] = path, text
    return path


def read_tables(path: Path, schema: Schema) -> tuple[dict[str, dict[str, Any]], str]:
    """Read a file and hold it against what it may hold.

    Parameters
    ----------
    path : Path
    schema : dict
        From `schema_of`.

    Returns
    -------
    tables : dict of dict
    text : str
        Of the file.

    Raises
    ------
    click.UsageError
        If it is no TOML file, or holds what is unknown or of another type; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(place[1]) if place else len(text.splitlines())
        raise click.UsageError(f"{path}:{line}: not TOML: {error}") from None
    for key, value in _entries(path, text, tables, {table for table, _ in schema}):
        where = _place(path, text, key)
        if key not in schema:
            names = [name for table, name in schema if table == key[0]]
            raise click.UsageError(f"{where}: {_unknown(key, names, schema)}")
        if wrong := _wrong(schema[key], value):
            raise click.UsageError(f"{where}: {key[1]} = {_shown(value)}: {wrong}")
    return tables, text


def _entries(
    path: Path, text: str, tables: dict[str, Any], known: set[str]
) -> Iterator[tuple[Key, Any]]:
    for table, entries in tables.items():
        if table not in known or not isinstance(entries, dict):
            what = f"[{table}]" if isinstance(entries, dict) else f"{table} outside of a table"
            near = _nearest(table, known)
            raise click.UsageError(
                f"{_place(path, text, (table,))}: {what} is unknown{near}; expected the tables "
                f"{', '.join(f'[{name}]' for name in sorted(known))}"
            )
        for name, value in entries.items():
            yield (table, name), value


def _unknown(key: Key, names: list[str], schema: Schema) -> str:
    table, name = key
    elsewhere = [other for other, known in schema if known == name]
    if elsewhere:
        return f"{name} is no option of [{table}]; it stands in [{elsewhere[0]}]"
    near = _nearest(name, names) or f"; expected one of {', '.join(names)}"
    return f"{name} is no option of [{table}]{near}"


def _nearest(word: str, known: set[str] | list[str]) -> str:
    near = difflib.get_close_matches(word.replace("_", "-"), known, n=1)
    return f", did you mean {near[0]}?" if near else ""


def _wrong(parameter: click.Parameter, value: Any) -> str:
    """What is wrong with a value as TOML has it; click would take "yes" for a number of steps."""
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    if several and not isinstance(value, list):
        return "expected an array, such as [" + _example(parameter.type) + "]"
    for one in value if several else [value]:
        kind, words = _kind(parameter.type, flag)
        if not isinstance(one, kind) or (isinstance(one, bool) and kind is not bool):
            return f"expected {words}" + (" in each place" if several else "")
        if isinstance(parameter.type, click.Path):
            continue  # what a command makes need not be there for another one
        try:
            parameter.type.convert(one, parameter, None)
        except click.UsageError as error:
            return error.message
    return ""


def _kind(kind: click.ParamType, flag: bool) -> tuple[Any, str]:
    if flag or isinstance(kind, click.types.BoolParamType):
        return bool, "true or false"
    if isinstance(kind, click.types.IntParamType):
        return int, "a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return (int, float), "a number"
    return str, f"a text in quotes, such as {_example(kind)}"


def _example(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return f'"{kind.choices[0]}"'
    return '"1,2"' if isinstance(kind, click.types.StringParamType) else '"FILE"'


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _placed(parameter: click.Parameter, value: Any, folder: Path) -> Any:
    """A value whose paths are those of the file's folder, wherever the command is called from."""
    is_path = isinstance(parameter.type, click.Path)
    if isinstance(value, list) and is_path:
        return [str(folder / path) for pattern in value for path in _found(pattern, folder)]
    if isinstance(value, list):
        return [_placed(parameter, one, folder) for one in value]
    if is_path:
        return str(folder / os.path.expanduser(value))
    own = isinstance(parameter.type, ForceFieldFile) and folder / os.path.expanduser(value)
    return str(own) if own and own.is_file() else value


def _found(pattern: str, folder: Path) -> list[str]:
    """The paths that a pattern stands for, as a shell has it, which finds no files in TOML."""
    home, slash, rest = pattern.partition("/") if pattern.startswith("~") else ("", "", pattern)
    escaped = glob.escape(os.path.expanduser(home)) + slash + rest
    return sorted(glob.glob(escaped, root_dir=folder)) or [os.path.expanduser(pattern)]


def _place(path: Path, text: str, key: tuple[str, ...]) -> str:
    return f"{path}:{line_of(text, key)}"


def line_of(text: str, key: tuple[str, ...]) -> int:
    """Line, from 1, of the statement of a TOML text that sets a key or opens a table.

    The shortest beginning of the text that is TOML and has the key ends with that statement, which
    begins after the one before: so a text of many lines that looks like a key misleads nobody.
    """
    lines, before = text.splitlines(keepends=True), 0
    for n in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("".join(lines[:n]))
        except tomllib.TOMLDecodeError:
            continue
        for name in key:
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return before + 1
        before = n
    return before + 1

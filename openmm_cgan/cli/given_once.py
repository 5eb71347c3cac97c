"""An option given twice is an error: click would take the last, and nobody would know."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence

import click


def require_once(command: click.Command, words: Sequence[str], parent: click.Context) -> None:
    """Check the words of a command for options that are given twice but take one value.

    Parameters
    ----------
    command : click.Command
    words : sequence of str
        What follows its name. A flag may be repeated, which says the same again.
    parent : click.Context
        That of the group.

    Raises
    ------
    click.UsageError
        Naming all values that were given.
    """
    context = click.Context(
        command, info_name=command.name, parent=parent, **command.context_settings
    )
    probe = click.Command(command.name, params=[_several(one) for one in command.params])
    given, _, order = probe.make_parser(context).parse_args(list(words))
    counts = Counter(one.name for one in order)
    for option in _taking_one(command):
        if (count := counts[option.name]) > 1:
            text = _told(option, count, given.get(str(option.name)))
            raise click.UsageError(text, context)


def _taking_one(command: click.Command) -> Iterator[click.Option]:
    for option in command.params:
        if not isinstance(option, click.Option) or option.multiple or option.count:
            continue
        if not option.is_flag or option.secondary_opts:
            yield option


def _several(parameter: click.Parameter) -> click.Parameter:
    """The same option, all of whose values the parser keeps."""
    if not isinstance(parameter, click.Option) or parameter.is_flag:
        return parameter
    kept = copy.copy(parameter)
    kept.multiple = True
    return kept


def _told(option: click.Option, count: int, values: object) -> str:
    name = max(option.opts, key=len)
    if option.is_flag:
        return f"{name} and {option.secondary_opts[0]} together are given {count} times: give one"
    shown = " and ".join(str(value) for value in values) if isinstance(values, list) else "?"
    about = f" ({option.help})" if option.help else ""
    return f"{name} is given {count} times, as {shown}: it takes one value{about}"

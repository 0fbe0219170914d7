"""`d-engine config`, and the options by which `serve` takes its configuration."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from d_engine.cli.common import fails_clearly, output_option, print_document
from d_engine.engine.config import EngineConfig, explain, load_config

_OPTIONS = {
    "id": ("node.id", "This node's number in the cluster, from 1."),
    "data-dir": ("node.data_dir", "Where the node keeps its data."),
    "listen": ("cluster.listen", "Address for members and clients: host:port or unix:/path."),
    "advertise": (
        "cluster.advertise",
        "The address under which others find this node, if it is another one.",
    ),
    "initial": ("cluster.initial", "The first members: 1=host:port,2=host:port,... Only used at birth."),
    "join": ("cluster.join", "Addresses of members of an existing cluster to join, separated by commas."),
    "log-level": ("log.level", "debug, info, warning or error."),
}


def settings_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--config FILE`, an option for what is set most often, and `--set SECTION.FIELD=VALUE` for all the rest."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        settings = {key: kwargs.pop(name.replace("-", "_")) for name, (key, _) in _OPTIONS.items()}
        if kwargs.pop("no_repair"):
            settings["storage.repair"] = "false"
        for flag in ("insecure_listen", "read_only"):
            if kwargs.pop(flag):
                settings[f"cluster.{flag}"] = "true"
        for item in kwargs.pop("assignments"):
            key, separator, value = item.partition("=")
            if not separator:
                raise click.UsageError(f"--set takes SECTION.FIELD=VALUE, not {item!r}")
            settings[key] = value
        kwargs["settings"] = {key: value for key, value in settings.items() if value is not None}
        function(*args, **kwargs)

    decorated = click.option(
        "--set", "assignments", multiple=True, metavar="SECTION.FIELD=VALUE", help="Set anything; repeatable."
    )(wrapper)
    decorated = click.option(
        "--insecure-listen",
        is_flag=True,
        help="Listen on an address that is not loopback, without encryption.",
    )(decorated)
    decorated = click.option(
        "--read-only", is_flag=True, help="With --join: a learner for ever, which never becomes a voter."
    )(decorated)
    decorated = click.option(
        "--no-repair",
        is_flag=True,
        help="Refuse to start on damaged data instead of repairing it from other members.",
    )(decorated)
    for name, (_, text) in reversed(_OPTIONS.items()):
        decorated = click.option(f"--{name}", help=text)(decorated)
    return click.option(
        "--config", "config_file", type=click.Path(), envvar="D_ENGINE_CONFIG", help="A TOML file."
    )(decorated)


def load(config_file: str | None, settings: dict[str, str]) -> EngineConfig:
    """File, then environment, then arguments."""
    return load_config(config_file, overrides=settings)


@click.group()
def config() -> None:
    """Look at configurations."""


@config.command()
@click.argument("file", type=click.Path(), required=False)
@output_option
@fails_clearly
def check(file: str | None, output: str) -> None:
    """Print the effective configuration of FILE and the environment, and where each value came from."""
    rows = explain(file)
    if output == "json":
        print_document([{"key": key, "value": value, "source": source} for key, value, source in rows])
        return
    for key, value, source in rows:
        click.echo(f"{key:28} {value!s:32} {source}")

"""The `flux-image` command. Each command imports what it needs, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.boundary import GuardedGroup
from shared.paths import user_path

if TYPE_CHECKING:
    from shared.settings import HostSettings

app = typer.Typer(
    name="flux-image",
    cls=GuardedGroup,
    help="FLUX image server for one strong GPU: text to image, Kontext editing and Fill.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _user_path(path: Path | None) -> Path | None:
    try:
        return None if path is None else user_path(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


PrecisionChoice = Literal["auto", "exact", "balanced", "compact"]
DataDir = Annotated[
    Path | None, typer.Option(callback=_user_path, help="Where everything is kept [env: FLUX_DATA_DIR].")
]
MixChoice = Literal["any", "same", "alternating", "new-prompts"]


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address or name the API listens on [env: FLUX_HOST].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0: any free one [env: FLUX_PORT].")
    ] = None,
    data_dir: DataDir = None,
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Start the Flower dashboard.")] = True,
) -> None:
    """Run the whole stack in the foreground: broker, API, GPU worker, Flower."""
    from cli.host.up import run_up

    raise typer.Exit(run_up(_host_settings(host=host, port=port, data_dir=data_dir), flower=flower))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(callback=_user_path, help="Where the pictures go.")] = Path("demo-output"),
    data_dir: DataDir = None,
) -> None:
    """Start the stack, make one picture of each kind through the real queue, stop the stack."""
    from cli.host.demo import run_demo

    raise typer.Exit(run_demo(_host_settings(data_dir=data_dir, host="127.0.0.1", port=0, flower_port=0), output))


@app.command()
def pull(
    model: Annotated[
        str,
        typer.Argument(help="A model (schnell, dev, kontext, fill, sd15, sdxl) or its adapter (flux-ip-adapter, ...)."),
    ],
) -> None:
    """Download a model's weights into the Hugging Face cache."""
    from cli.host.pull import run_pull

    raise typer.Exit(run_pull(model))


@app.command()
def plan(
    gpu_gib: Annotated[float, typer.Option(min=0, help="Memory of the card in GiB; 0: no card.")],
    models: Annotated[str, typer.Option(help="Comma-separated, in order of need.")] = "schnell,kontext,fill",
    host_gib: Annotated[float | None, typer.Option(min=1, help="Memory of the host in GiB; unset: this one's.")] = None,
    precision: Annotated[
        PrecisionChoice, typer.Option(help="auto: the best at which every model fits alone.")
    ] = "auto",
    link_gb_per_second: Annotated[
        float, typer.Option(min=0.1, help="Pinned host to card; about 25 for PCIe 4.0 x16, 50 for 5.0.")
    ] = 25.0,
    side: Annotated[int, typer.Option(min=64, help="Side of the square pictures to plan for, in pixels.")] = 1024,
    mix: Annotated[MixChoice, typer.Option(help="The jobs to plan for; any: new prompts, changing models.")] = "any",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a card would hold, what moves, what a switch costs, and why. Needs no GPU."""
    from cli.host.plan import run_plan

    raise typer.Exit(
        run_plan(
            models,
            gpu_gib=gpu_gib,
            host_gib=host_gib,
            precision=precision,
            link_gb_per_second=link_gb_per_second,
            side=side,
            mix=mix,
            as_json=as_json,
        )
    )


@app.command()
def doctor(
    audit: Annotated[bool, typer.Option("--audit", help="Also check every job and every picture.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check GPU, torch, weights, disk, database and broker; exit 1 when something is in the way."""
    from cli.host.doctor import run_doctor
    from shared.settings import HubSettings

    settings = HubSettings() if data_dir is None else HubSettings(data_dir=data_dir)
    raise typer.Exit(run_doctor(settings, with_audit=audit))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(callback=_user_path, help="A new folder.")],
    data_dir: DataDir = None,
) -> None:
    """Copy the database and every picture into a folder, while the server runs, and audit the copy."""
    from cli.host.backup import run_backup

    raise typer.Exit(run_backup(_host_settings(data_dir=data_dir), target))


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(callback=_user_path, help="A folder that `backup` made.")],
    data_dir: DataDir = None,
) -> None:
    """Bring a backup into an empty data directory; the server must not run on it."""
    from cli.host.backup import run_restore

    raise typer.Exit(run_restore(_host_settings(data_dir=data_dir), source))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the schema of this version."""
    from cli.host.migrate import run_migrate

    raise typer.Exit(run_migrate(_host_settings(data_dir=data_dir)))


def _host_settings(**given: Any) -> HostSettings:
    from shared.settings import HostSettings

    return HostSettings(**{name: value for name, value in given.items() if value is not None})


def main() -> None:
    """Run the command line."""
    app()

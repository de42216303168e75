"""`retort profile`: services by name, for those who speak to several."""

from typing import Annotated

import typer

from studies.inert import one_line

app = typer.Typer(help="Services by name: retort --profile NAME ...", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Option(help="where the service is: https://retort.example.org")],
    token: Annotated[str, typer.Option(prompt=True, hide_input=True, help="its token; asked for where it is not given")],
) -> None:
    """Keep a service and its token under a name, in a file that only you can read."""
    from api.profiles import Profile, add_profile, profiles_file

    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("letters, digits, - and _", param_hint="NAME")
    add_profile(name, Profile(url, token.strip() or None))
    typer.echo(f"profile {name} is kept in {profiles_file()}; use it: retort --profile {name} list, or RETORT_PROFILE={name}")


@app.command("list")
def list_() -> None:
    """List profiles, without their tokens."""
    from api.profiles import profiles

    for name, profile in profiles().items():
        typer.echo(one_line(f"{name}  {profile.url}"))


@app.command()
def remove(name: Name) -> None:
    """Forget a profile."""
    from api.profiles import remove_profile

    remove_profile(name)
    typer.echo(f"profile {name} is forgotten")

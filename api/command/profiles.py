"""`retort profile`: services by name, for those who speak to several."""

from typing import Annotated

import typer

from api.command.output import Json, tell
from studies.inert import one_line

app = typer.Typer(help="Services by name: retort --profile NAME ...", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Option(help="where the service is: https://retort.example.org")],
    token: Annotated[str, typer.Option(prompt=True, hide_input=True, help="its token; asked for where it is not given")],
    as_json: Json = False,
) -> None:
    """Keep a service and its token under a name, in a file that only you can read."""
    from api.profiles import Profile, add_profile, profiles_file

    if not name.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("letters, digits, - and _", param_hint="NAME")
    add_profile(name, Profile(url, token.strip() or None))
    told = f"profile {name} is kept in {profiles_file()}; use it: retort --profile {name} list, or RETORT_PROFILE={name}"
    tell(as_json, {"name": name, "url": url, "file": str(profiles_file())}, told)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List profiles, without their tokens."""
    from api.profiles import profiles

    found = {name: profile.url for name, profile in profiles().items()}
    tell(as_json, [{"name": name, "url": url} for name, url in found.items()], *(one_line(f"{name} {url}") for name, url in found.items()))


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Forget a profile."""
    from api.profiles import remove_profile

    remove_profile(name)
    tell(as_json, {"name": name, "removed": True}, f"profile {name} is forgotten")

"""A sitting of any search, over one space or several."""

from rich.console import Console

from search.arguments import Arguments
from search.members import is_portfolio
from search.portfolio_session import holds_portfolio, run_portfolio
from search.session import run
from search.storage.opening import opened_storage


def sit(arguments: Arguments, command: str, console: Console) -> int:
    """As :func:`search.session.run`, for whatever the arguments or the folder that they resume hold."""

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    with opened_storage(arguments, say) as (arguments, storage):
        several = is_portfolio(arguments) if arguments.resume is None else holds_portfolio(arguments.resume)
        return (run_portfolio if several else run)(arguments, command, console, storage)

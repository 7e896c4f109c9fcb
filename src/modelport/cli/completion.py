"""`modelport completion`."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes bash, zsh or fish complete modelport.

    \b
    bash   echo 'eval "$(modelport completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(modelport completion zsh)"' >> ~/.zshrc
    fish   modelport completion fish > ~/.config/fish/completions/modelport.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    root = ctx.find_root()
    assert found is not None
    # Not `source()`: of bash it first starts a bash to learn its version, and complains where there is none.
    settings = found(root.command, {}, "modelport", "_MODELPORT_COMPLETE")
    click.echo(settings.source_template % settings.source_vars(), nl=False)

"""`tristrata setup`: bring what the embedded network needs, once."""

import time

from tristrata.devnet.toolchain import Step, missing_steps, run_setup


def setup() -> None:
    """Bring the chains' binary, the model and the compiled contracts; what is there already is left alone.

    `make setup` ends with it. Run again, it goes on where it was stopped.
    """
    if missing_steps():
        _with_progress()
    else:
        print("Everything is set up.")


def _with_progress() -> None:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(highlight=False, markup=False, soft_wrap=True)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting")
        started = time.monotonic()

        def report(message: str) -> None:
            progress.update(task, description=message)
            if not console.is_terminal:
                console.print(f"  {message}")

        def finished(step: Step) -> None:
            nonlocal started
            console.print(f"✓ {step.name}, {time.monotonic() - started:.1f} s")
            started = time.monotonic()
            progress.reset(task)

        run_setup(report, finished)

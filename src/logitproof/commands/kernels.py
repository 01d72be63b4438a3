"""`logitproof kernels`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("kernels")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--quant", default="", metavar="Q8_0,Q4_K_M", help="Also ggml's kernels, with the weights in these types.")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: all.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: kernels-MODEL.json.")
def command(model: Path, quant: str, dtypes: tuple[str, ...], out: Path | None) -> None:
    """Measure the error of every kind of operation of MODEL, an HF folder, at its own shapes against float64.

    Beside it stands the error that `calibrate` gives this operation. Set ONEDNN_MAX_CPU_ISA or ATEN_CPU_CAPABILITY to measure
    other kernels of the same libraries; what is set is written down.
    """
    from logitproof.kernels import DTYPES, as_table, measure_kernels, write_kernels

    wanted = [name for name in quant.split(",") if name]
    say = lambda line: click.echo(line, err=True)  # noqa: E731
    measured = measure_kernels(model, quantizations=wanted, dtypes=dtypes or DTYPES, say=say)
    path = out or Path(f"kernels-{model.resolve().name}.json")
    write_kernels(path, measured)
    click.echo(as_table(measured))
    click.echo(f"{len(measured['kernels'])} kernels: {path}", err=True)

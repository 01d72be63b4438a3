"""`logitproof kernels`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("kernels")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--quant", default="", metavar="Q8_0,Q4_K_M", help="Also ggml's kernels, with the weights in these types.")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: all.")
@click.option("--isa", default="", metavar="avx512,avx2", help="torch's kernels on these instruction sets, a file for each.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: kernels-MODEL.json.")
def command(model: Path, quant: str, dtypes: tuple[str, ...], isa: str, out: Path | None) -> None:
    """Measure the error of every kind of operation of MODEL, an HF folder, at its own shapes against float64.

    Beside it stands the error that `calibrate` gives this operation. `--isa` measures in processes that are pinned and prove
    it; ggml's kernels are those of the build that is loaded, and LLAMA_CPP_LIB_PATH names another.
    """
    from logitproof.errors import ContractError
    from logitproof.kernels import DTYPES, as_table, measure_kernels, write_kernels

    if isa:
        from logitproof.kernels_isa import measure_on

        if quant:
            raise ContractError("ggml is not pinned by --isa", where="--quant", remedy="name a build by LLAMA_CPP_LIB_PATH")
        for name in dict.fromkeys(isa.split(",")):
            one = measure_on(name, model, dtypes or DTYPES)
            path = (out or Path(f"kernels-{model.resolve().name}.json")).with_suffix(f".{name}.json")
            write_kernels(path, one)
            click.echo(f"{name}, proven by {one['evidence']}\n{as_table(one)}")
            click.echo(f"{len(one['kernels'])} kernels: {path}", err=True)
        return
    wanted = [name for name in quant.split(",") if name]
    say = lambda line: click.echo(line, err=True)  # noqa: E731
    measured = measure_kernels(model, quantizations=wanted, dtypes=dtypes or DTYPES, say=say)
    path = out or Path(f"kernels-{model.resolve().name}.json")
    write_kernels(path, measured)
    click.echo(as_table(measured))
    click.echo(f"{len(measured['kernels'])} kernels: {path}", err=True)

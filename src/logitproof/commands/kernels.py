"""`logitproof kernels`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD, Model


@ends_with(Exits("every kind was measured", nothing="an engine failed"))
@click.command("kernels")
@click.argument("model", type=Model())
@click.option("--quant", default="", metavar="Q8_0,Q4_K_M", help="Also ggml's kernels, with the weights in these types.")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: all.")
@click.option("--isa", default="", metavar="avx512,avx2", help="On these instruction sets, a file for each.")
@click.option("--ggml", type=click.Path(path_type=Path), metavar="PATH", help="A build of llama.cpp, or a CPU backend in it.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: kernels-MODEL.json.")
@DOWNLOAD
def command(model: Path, quant: str, dtypes: tuple[str, ...], isa: str, ggml: Path | None, out: Path | None) -> None:
    """Measure the error of every kind of operation of MODEL.

    MODEL is an HF folder; its operations run at its own shapes and are compared with float64. Beside it stands the error
    that `calibrate` gives this operation. `--isa` measures in processes that are pinned and prove
    it; ggml is then the backend for that instruction set in the folder `--ggml`, or in what `make isa` built.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.documents.console import show
    from logitproof.kernels.measure import DTYPES, measure_kernels
    from logitproof.kernels.text import answer, document
    from logitproof.weights.hub import absolute, named

    wanted = [name for name in quant.split(",") if name]
    path = out or Path(f"kernels-{named(absolute(model))}.json")
    if isa:
        from logitproof.kernels.isa import measure_on

        for name in dict.fromkeys(isa.split(",")):
            measured = measure_on(name, model, dtypes or DTYPES, wanted, ggml)
            file = answer(measured).write(path.with_suffix(f".{name}.json"))
            show(document(measured))
            say(f"{len(measured['kernels'])} kernels: {file}")
        return
    measured = measure_kernels(model, quantizations=wanted, dtypes=dtypes or DTYPES, build=ggml, say=say)
    record = answer(measured)
    say(f"{len(measured['kernels'])} kernels: {record.write(path)}")
    tell(document(measured), record, as_json=False)

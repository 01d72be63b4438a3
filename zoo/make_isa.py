"""What the instruction-set matrix needs beside the usual engines: `python zoo/make_isa.py {x86_64,aarch64} [--out .cache/isa]`.

x86_64   llama.cpp with one CPU backend for each of AVX2, AVX-512 and AMX, chosen when it is loaded
aarch64  the same with a NEON backend; an arm64 Python with its packages, from Debian's and Python's archives, unpacked and
         not installed; qemu-user-static, which runs it on x86

One compiler builds all of them: clang, in the wheel `ziglang`. It needs no other machine's libraries, and it does not drop
the stores to AMX's tile configuration, as GCC 12 does. The sources are those inside the bindings, so that both are of one
version; LOGITPROOF_LLAMA_CPP_SOURCE names them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("ziglang==0.17.0", "cmake==4.4.4", "ninja==1.13.2")
GLIBC = "2.31"
AVX2 = ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2")
AVX512 = (*AVX2, "AVX512")
AMX = (*AVX512, "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE", "AMX_INT8")
VARIANTS = {
    "x86_64": {"haswell": AVX2, "skylakex": AVX512, "sapphirerapids": AMX},
    "aarch64": {"armv8.0_1": ()},
}
"""ggml's own names of these variants and its switches for them."""
LLAMA = [
    *("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_OPENMP=OFF"),
    *("-DCMAKE_INSTALL_RPATH=$ORIGIN", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON", "-DLLAMA_OPENSSL=OFF"),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "APP", "TESTS", "TOOLS", "EXAMPLES", "SERVER")),
]
PYTHON = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
    *("libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libcrypt1"),
)
PACKAGES = ("numpy", "pydantic", "typing_extensions", "diskcache", "jinja2")
WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", choices=VARIANTS)
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/isa")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    out = asked.out.resolve()
    build_llama(asked.machine, out, asked.jobs)
    if asked.machine == "aarch64":
        unpack_python(out)
    return 0


def build_llama(machine: str, out: Path, jobs: int) -> None:
    """libllama and every variant's backend in out/MACHINE, by the names that the engine `llamacpp` looks for."""
    source = Path(os.environ.get("LOGITPROOF_LLAMA_CPP_SOURCE", ROOT / ".cache/llama.cpp")).resolve()
    tools, library = tools_in(out), out / machine
    compilers = wrappers(machine, out, tools)
    library.mkdir(parents=True, exist_ok=True)
    for number, (variant, switches) in enumerate(VARIANTS[machine].items()):
        build = out / "build" / f"{machine}-{variant}"
        print(f"{machine}: {variant}", flush=True)
        # The AMX kernels read members of a block that ggml's other sources, in one unit with them, declare under other names.
        unity = "OFF" if "AMX_TILE" in switches else "ON"
        own = [f"-DCMAKE_UNITY_BUILD={unity}", *(f"-DGGML_{name}=ON" for name in switches)]
        where = [f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}", "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={machine}"]
        # Without GIT_DIR it would call itself by this repository's commit.
        quietly(
            [tools / "cmake", "-G", "Ninja", "-S", source, "-B", build, *where, *compilers, *LLAMA, *own], GIT_DIR="/dev/null"
        )
        quietly([tools / "ninja", "-C", build, "-j", jobs, *(["ggml-cpu", "llama"] if number == 0 else ["ggml-cpu"])])
        shutil.copy(build / "bin/libggml-cpu.so", library / f"libggml-cpu-{variant}.so")
        if number == 0:
            for file in build.glob("bin/lib*.so*"):
                if "cpu" not in file.name:
                    (library / file.name).unlink(missing_ok=True)  # a link that is there is not written over
                    shutil.copy(file, library / file.name, follow_symlinks=False)


def tools_in(out: Path) -> Path:
    """The folder of cmake, ninja and a Python with ziglang."""
    if not (out / "tools/bin/ninja").exists():
        venv.create(out / "tools", with_pip=True)
        quietly([out / "tools/bin/python", "-m", "pip", "install", "--quiet", *TOOLS])
    return out / "tools/bin"


def wrappers(machine: str, out: Path, tools: Path) -> list[str]:
    """Compilers for `machine` as programs of one word, and cmake's switches that name them."""
    folder = out / "build" / f"compilers-{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    target = ("-target", f"{machine}-linux-gnu.{GLIBC}")
    programs = {"C_COMPILER": ("cc", *target), "CXX_COMPILER": ("c++", *target), "AR": ("ar",), "RANLIB": ("ranlib",)}
    for name, words in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{tools / "python"}" -m ziglang {" ".join(words)} "$@"\n')
        path.chmod(0o755)
    return [f"-DCMAKE_{name}={folder / name}" for name in programs]


def unpack_python(out: Path) -> None:
    """out/python: the root of a small arm64 system; out/qemu-aarch64-static: what runs it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        sys.exit("the arm64 Python comes from Debian's packages: run this on Debian or Ubuntu, or in a container of one")
    root = out / "python"
    for package in downloaded(out / "debian-arm64", "arm64", PYTHON):
        quietly(["dpkg", "-x", package, root])
    # No -u: packages that the machine has installed are of its own architecture.
    for package in downloaded(out / "debian-own", None, ("qemu-user-static",)):
        quietly(["dpkg", "-x", package, out / "qemu"])
    shutil.copy(out / "qemu/usr/bin/qemu-aarch64-static", out / "qemu-aarch64-static")
    shutil.copy(out / "qemu/usr/bin/qemu-x86_64-static", out / "qemu-x86_64-static")
    packages = root / "usr/lib/python3/dist-packages"
    platforms = [word for name in WHEELS for word in ("--platform", name)]
    only = ["--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:", "--upgrade", "--no-warn-conflicts"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", packages, *platforms, *only]
    quietly([*command, "-c", ROOT / "constraints.txt", *PACKAGES])
    bindings = importlib.util.find_spec("llama_cpp")
    if bindings is None or bindings.origin is None:
        sys.exit("the bindings are not installed: run `make setup` first")
    # They are Python alone; their libraries are this machine's.
    shutil.copytree(
        Path(bindings.origin).parent,
        packages / "llama_cpp",
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("lib", "__pycache__"),
    )


def downloaded(folder: Path, architecture: str | None, names: tuple[str, ...]) -> list[Path]:
    """Debian packages, by lists of their own, so that the machine's packages are neither read nor changed."""
    for part in ("lists/partial", "cache/archives/partial", "packages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    own = [f"-oDir::State::Lists={folder / 'lists'}", f"-oDir::Cache={folder / 'cache'}", "-oAPT::Sandbox::User="]
    if architecture is not None:
        own += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}", "-oDir::State::status=/dev/null"]
    quietly(["apt-get", *own, "update"])
    quietly(["apt-get", *own, "download", *names], folder / "packages")
    return sorted((folder / "packages").glob("*.deb"))


def quietly(words: list[object], folder: Path | None = None, **environment: str) -> None:
    """Run a program; its words are shown only where it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"`{' '.join(str(word) for word in words[:4])} …` failed:\n{(done.stdout + done.stderr)[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())

# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11, a C and C++ compiler and the package indexes; all else is made here.

PYTHON    ?= $(shell command -v python3.11 || command -v python3)
VENV      := .venv
PY        := $(VENV)/bin/python
PIP       := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
LLAMA     := 0.3.36
SDIST     := .cache/llama_cpp_python-$(LLAMA)
JOBS      ?= $(shell nproc 2>/dev/null || echo 2)
# No -march=native: GCC 12 miscompiles llama.cpp's AMX kernels, and a build must not depend on its builder.
# Only the libraries are built, in unity: a third of the time that the bindings' own build takes.
LLAMA_CMAKE := -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF -DCMAKE_UNITY_BUILD=ON \
    -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_OPENSSL=OFF \
    '-DCMAKE_INSTALL_RPATH=$$ORIGIN' -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint zoo test-engines llama-tools engines clean

help:                ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

setup: $(VENV)/.ready  ## make .venv with both real engines

demo: setup          ## all the set-up, then the main job, offline
	$(PY) zoo/make_gguf.py --only qwen3 llama3
	$(PY) -m logitproof check examples/demo.parity.yaml --out runs/demo --parallel $(JOBS)

test: setup $(VENV)/.test-ready zoo lint  ## all the set-up, then the tests
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.test-ready  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

test-engines: setup $(VENV)/.test-ready zoo  ## the tests that run real engines, by themselves
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) -m pytest tests/engines -n $(JOBS) --dist worksteal

zoo: setup           ## GGUF files of every zoo model, in every quantization
	$(PY) zoo/make_gguf.py

bench-%: setup $(VENV)/.test-ready zoo  ## run benchmarks/NAME.py, which writes benchmarks/results/NAME.json
	$(PY) benchmarks/$*.py

llama-tools: .cache/llama-tools/.built  ## build llama.cpp's own server and tools; LOGITPROOF_LLAMA_TOOLS names other builds

engines: setup       ## the environments of engines whose dependencies clash; several gigabytes
	failed=0; for file in src/logitproof/engines/requirements/*.txt; do \
	    $(PY) -m logitproof engines install $$(basename $$file .txt) || failed=1; done; exit $$failed

isa: setup           ## llama.cpp with a CPU backend for each of AVX2, AVX-512 and AMX, for examples/isa.parity.yaml
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) zoo/make_isa.py x86_64 --jobs $(JOBS)

neon: setup          ## the same for NEON, with an arm64 Python and the emulator that runs it (Debian or Ubuntu)
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) zoo/make_isa.py aarch64 --jobs $(JOBS)

clean:               ## remove everything that was made
	rm -rf $(VENV) .cache zoo/gguf runs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "logitproof needs Python 3.11 or newer: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)

# The sdist is unpacked because llama.cpp's own converter, which the tests compare with, is only in there.
$(SDIST)/.unpacked: | $(VENV)/bin/python
	mkdir -p .cache
	$(PY) -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d .cache llama-cpp-python==$(LLAMA)
	tar -xzf $(SDIST).tar.gz -C .cache
	ln -sfn llama_cpp_python-$(LLAMA)/vendor/llama.cpp .cache/llama.cpp
	touch $@

# Without GIT_DIR it would call itself by this repository's commit.
.cache/llama-build/.built: $(SDIST)/.unpacked
	$(PIP) cmake ninja
	GIT_DIR=/dev/null $(VENV)/bin/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja -S .cache/llama.cpp -B .cache/llama-build $(LLAMA_CMAKE) > .cache/llama-build.log
	$(VENV)/bin/ninja -C .cache/llama-build -j $(JOBS) >> .cache/llama-build.log
	touch $@

# The web page of the server would be fetched from the network.
.cache/llama-tools/.built: $(SDIST)/.unpacked
	$(PIP) cmake ninja
	GIT_DIR=/dev/null $(VENV)/bin/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja -S .cache/llama.cpp -B .cache/llama-tools \
	    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
	    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF > .cache/llama-tools.log
	$(VENV)/bin/ninja -C .cache/llama-tools -j $(JOBS) llama-server llama-completion llama-perplexity >> .cache/llama-tools.log
	touch $@

$(VENV)/.llama-ready: .cache/llama-build/.built
	$(PIP) ./$(SDIST) --config-settings="cmake.args=-DLLAMA_BUILD=OFF"
	$(PY) -c 'import shutil, pathlib, importlib.util as u; \
	    to = pathlib.Path(u.find_spec("llama_cpp").origin).parent / "lib"; to.mkdir(exist_ok=True); \
	    [shutil.copy(f, to / f.name) for f in pathlib.Path(".cache/llama-build/bin").iterdir() if f.name.startswith("lib")]'
	touch $@

$(VENV)/.ready: constraints.txt pyproject.toml $(VENV)/.llama-ready
	$(PIP) -e '.[transformers]'
	touch $@

$(VENV)/.test-ready: constraints.txt pyproject.toml | $(VENV)/.ready
	$(PIP) -e '.[transformers,test]'
	touch $@

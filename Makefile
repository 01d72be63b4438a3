# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11, a C and C++ compiler and the package indexes; all else is made here.

PYTHON    ?= $(shell command -v python3.11 || command -v python3)
VENV      := .venv
PY        := $(VENV)/bin/python
PIP       := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
LLAMA     := 0.3.36
SDIST     := .cache/llama_cpp_python-$(LLAMA)
CHROMIUM  := 153.0.0
UNPACK    := const [from, to] = process.argv.slice(1), fs = require("fs"); \
    fs.writeFileSync(to, require("zlib").brotliDecompressSync(fs.readFileSync(from)))
JOBS      ?= $(shell nproc 2>/dev/null || echo 2)
# No -march=native: GCC 12 miscompiles llama.cpp's AMX kernels, and a build must not depend on its builder.
# In unity, a third of the time that the bindings' own build takes; the web page of the server would come from the network.
LLAMA_CMAKE := -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_PROJECT_TOP_LEVEL_INCLUDES=$(CURDIR)/zoo/unity.cmake -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
    '-DCMAKE_INSTALL_RPATH=$$ORIGIN' -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON
LLAMA_TOOLS := llama-server llama-completion llama-perplexity

.DEFAULT_GOAL := help
.PHONY: help setup demo pictures bench test test-real test-ray browser lint zoo real test-engines examples docs llama-tools engines locks sbom licences package pythons isa neon clean

help:                ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

setup: $(VENV)/.ready  ## make .venv with both real engines

demo: setup          ## all the set-up, then the main job, offline
	$(PY) zoo/make_gguf.py --only qwen3 llama3
	$(PY) -m logitproof check examples/demo.parity.yaml --out runs/demo --parallel $(JOBS)

pictures: demo browser  ## the pictures of the README, out of the demo's run
	$(PY) docs/picture.py runs/demo
	$(PY) docs/screenshots.py runs/demo

test: setup $(VENV)/.test-ready zoo llama-tools lint  ## all the set-up, then the tests
	@$(MAKE) --no-print-directory browser || echo "the tests of pages are skipped: no Chromium, and npm cannot fetch one"
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) -m pytest -n $(JOBS) --dist worksteal

examples: setup $(VENV)/.test-ready zoo llama-tools  ## the runnable half of the four teams' folders, and docs/requirements.md
	$(PY) examples/run.py

real: setup          ## published models that are packages of the Python index, unpacked into .cache/real
	$(PY) zoo/make_real.py

test-real: real $(VENV)/.test-ready llama-tools  ## the tests on published models; what the index lacks is NOT-MEASURED, by name
	$(PY) -m pytest tests/real -n $(JOBS) --dist worksteal

browser:             ## a Chromium for the tests of pages, from npm and without root, where the machine has none (x86-64 Linux)
	@command -v chromium || command -v chromium-browser || command -v google-chrome || $(MAKE) --no-print-directory .cache/chromium/chromium

lint: $(VENV)/.test-ready  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

test-engines: setup $(VENV)/.test-ready zoo  ## the tests that run real engines, by themselves
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) -m pytest tests/engines -n $(JOBS) --dist worksteal

zoo: setup           ## GGUF files of every zoo model, in every quantization
	$(PY) zoo/make_gguf.py

bench: setup $(VENV)/.test-ready zoo real llama-tools  ## figures of speed and size beside their peers: benchmarks/RESULTS.md
	for name in peer overhead compare memory scale; do $(PY) benchmarks/$$name.py || exit 1; done
	$(PY) benchmarks/_table.py

bench-8b: setup $(VENV)/.test-ready  ## a contract at real size: 38 GB of disk and hours; not in CI
	$(PY) benchmarks/8b.py

test-ray: setup $(VENV)/.test-ready  ## a contract on two nodes of Ray on this machine, one killed, runs interrupted; not in CI, which would wait for their ports
	LOGITPROOF_RAY=1 $(PY) -m pytest -n 0 tests/engines/test_ray.py

bench-ray: setup $(VENV)/.test-ready  ## a contract on a cluster on this machine, a node killed in the middle: results/ray.json
	$(PY) benchmarks/machines.py

bench-%: setup $(VENV)/.test-ready zoo  ## run benchmarks/NAME.py, which writes benchmarks/results/NAME.json
	$(PY) benchmarks/$*.py

llama-tools: .cache/llama-build/.tools-built  ## build llama.cpp's own server and tools; LOGITPROOF_LLAMA_TOOLS names other builds

engines: setup       ## the environments of engines whose dependencies clash; several gigabytes
	failed=0; for file in src/logitproof/engines/requirements/*.txt; do \
	    $(PY) -m logitproof engines install $$(basename $$file .txt) || failed=1; done; exit $$failed

locks: $(VENV)/bin/python  ## the locks of engines' environments and of the package itself, with hashes, from the index
	$(PIP) uv
	$(PY) zoo/make_locks.py

sbom: .cache/supply/.ready  ## what the package is made of: .cache/supply/sbom.cdx.json, in CycloneDX
	.cache/supply/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type library \
	    --output-reproducible --of JSON -o .cache/supply/sbom.cdx.json

licences: setup .cache/supply/.ready  ## the licence of every package that is installed: .cache/supply/licences.md
	.cache/supply/bin/pip-licenses --python $(PY) --with-urls --format markdown --output-file .cache/supply/licences.md

package: $(VENV)/.test-ready  ## sdist and wheel, in .cache/dist
	$(PY) -m build --no-isolation --outdir .cache/dist .

bench-mutation: setup $(VENV)/.test-ready .cache/mutation/.ready  ## are changes of what judges noticed by its tests? benchmarks/mutation.py
	$(PY) benchmarks/mutation.py

.cache/mutation/.ready: constraints.txt
	$(PYTHON) -m venv .cache/mutation
	.cache/mutation/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	touch $@

# Tools that look at the environment from outside, with dependencies of their own.
.cache/supply/.ready: constraints.txt
	$(PYTHON) -m venv .cache/supply
	.cache/supply/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-licenses==5.5.5
	touch $@

PYTHONS   ?= $(foreach version,3.12 3.13,$(shell command -v python$(version)))
pythons: constraints.txt  ## what needs no torch, tested on the other Pythons: make pythons PYTHONS="/path/to/python3.13 ..."
	@test -n "$(PYTHONS)" || { echo "no other Python is here: make pythons PYTHONS=/path/to/python3.13"; exit 1; }
	for python in $(PYTHONS); do \
	    folder=.cache/pythons/$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') && $$python -m venv $$folder && \
	    $$folder/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt . pytest pytest-timeout hypothesis && \
	    $$folder/bin/python -W error::DeprecationWarning:logitproof -m pytest -q $(foreach name,$(ANYWHERE),tests/unit/test_$(name).py) || exit 1; done
ANYWHERE  := judge gates compare scope suite

isa: setup           ## llama.cpp with a CPU backend for each of AVX2, AVX-512 and AMX, for examples/isa.parity.yaml
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) zoo/make_isa.py x86_64 --jobs $(JOBS)

neon: setup          ## the same for NEON, with an arm64 Python and the emulator that runs it (Debian or Ubuntu)
	LOGITPROOF_LLAMA_CPP_SOURCE=$(CURDIR)/.cache/llama.cpp $(PY) zoo/make_isa.py aarch64 --jobs $(JOBS)

docs: setup $(VENV)/.test-ready  ## the documentation as a site in .cache/site; a warning ends it
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean:               ## remove everything that was made
	rm -rf $(VENV) .cache zoo/gguf runs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "logitproof needs Python 3.11 or newer: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)

# The sdist is unpacked because llama.cpp's own converter, which the tests compare with, is only in there. Its `.git`
# points at a repository that is not here, and would make every build look stale.
$(SDIST)/.unpacked: | $(VENV)/bin/python
	mkdir -p .cache
	$(PY) -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d .cache llama-cpp-python==$(LLAMA)
	tar -xzf $(SDIST).tar.gz -C .cache
	rm -f $(SDIST)/vendor/llama.cpp/.git
	ln -sfn llama_cpp_python-$(LLAMA)/vendor/llama.cpp .cache/llama.cpp
	touch $@

# Without GIT_DIR it would call itself by this repository's commit.
.cache/llama-build/.built: $(SDIST)/.unpacked
	$(PIP) cmake ninja
	GIT_DIR=/dev/null $(VENV)/bin/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja -S .cache/llama.cpp -B .cache/llama-build $(LLAMA_CMAKE) > .cache/llama-build.log
	GIT_DIR=/dev/null $(VENV)/bin/ninja -C .cache/llama-build -j $(JOBS) llama >> .cache/llama-build.log
	touch $@

.cache/llama-build/.tools-built: .cache/llama-build/.built
	GIT_DIR=/dev/null $(VENV)/bin/ninja -C .cache/llama-build -j $(JOBS) $(LLAMA_TOOLS) >> .cache/llama-build.log
	ln -sfn llama-build .cache/llama-tools
	touch $@

# The package holds the browser compressed, as functions of clouds want it, with the libraries that a bare machine lacks; node
# is there where npm is.
.cache/chromium/chromium:
	mkdir -p .cache/chromium
	cd .cache/chromium && npm pack --silent @sparticuz/chromium@$(CHROMIUM) && tar -xzf sparticuz-chromium-$(CHROMIUM).tgz
	cd .cache/chromium && node -e '$(UNPACK)' package/bin/chromium.br unpacked
	cd .cache/chromium && node -e '$(UNPACK)' package/bin/al2023.tar.br libraries.tar && tar -xf libraries.tar && rm libraries.tar
	chmod +x .cache/chromium/unpacked && mv .cache/chromium/unpacked $@
	rm -rf .cache/chromium/package .cache/chromium/*.tgz

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

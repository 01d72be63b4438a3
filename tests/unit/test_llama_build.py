"""Pins name llama.cpp's commit and build flags, by whoever says them."""

from __future__ import annotations

from pathlib import Path

from logitproof.engines._llama_build import build_facts, commit_in_changelog

CHANGELOG = """\
# Changelog
## [Unreleased]
## [0.3.36]
- feat: update llama.cpp to ggml-org/llama.cpp@0c1e57098
## [0.3.35]
- fix: nothing of llama.cpp
- feat: update llama.cpp to ggml-org/llama.cpp@4df29be4f
"""
CACHE = """\
CMAKE_BUILD_TYPE:STRING=Release
GGML_AVX2:BOOL=ON
GGML_CUDA:BOOL=OFF
GGML_CCACHE_FOUND:FILEPATH=GGML_CCACHE_FOUND-NOTFOUND
GGML_BACKEND_DIR:PATH=
CMAKE_HOME_DIRECTORY:INTERNAL={source}
"""


def test_the_changelog_of_the_bindings_names_the_commit_of_each_version() -> None:
    assert commit_in_changelog(CHANGELOG, "0.3.36") == "0c1e57098"
    assert commit_in_changelog(CHANGELOG, "0.3.35") == "4df29be4f"
    assert commit_in_changelog(CHANGELOG) == "0c1e57098"
    assert commit_in_changelog(CHANGELOG, "0.2.0") == commit_in_changelog("") == ""


def test_a_program_in_its_build_folder_has_its_flags_and_the_commit_of_its_source(tmp_path: Path) -> None:
    source = tmp_path / "package" / "vendor" / "llama.cpp"
    source.mkdir(parents=True)
    (tmp_path / "package" / "CHANGELOG.md").write_text(CHANGELOG)
    program = tmp_path / "build" / "bin" / "llama-completion"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"")
    (tmp_path / "build" / "CMakeCache.txt").write_text(CACHE.format(source=source))
    facts = build_facts(program, "version: 0.5.0-dev (build 0, commit unknown)")
    assert facts == {
        "llama.cpp commit": "0c1e57098, as llama-cpp-python says",
        "build flags": "CMAKE_BUILD_TYPE=Release GGML_AVX2=ON",
    }


def test_what_a_build_says_itself_comes_first(tmp_path: Path) -> None:
    assert build_facts(tmp_path / "llama-server", "version: 7500 (0c1e5709)")["llama.cpp commit"] == "0c1e5709"

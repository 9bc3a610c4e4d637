"""A real S3 server on this machine."""

import contextlib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.distributed import processes


@contextlib.contextmanager
def running():
    """Gives the environment of those that use it. It has no bucket."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    port = processes.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        address = f"http://127.0.0.1:{port}"
        while running.poll() is None:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(address).close()
                break
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        running.kill()

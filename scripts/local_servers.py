"""Real inference servers for the tests: llama.cpp's own, and llama-cpp-python's, both serving this repository's tiny models.

    python scripts/local_servers.py build               compile both; some minutes, once for all checkouts
    python scripts/local_servers.py run COMMAND ...     start them, run a command that finds them, stop them

COMMAND sees LOCAL_LLM_URLS, LOCAL_LLM_MODELS and LOCAL_LLM_WEIGHTS. Everything is made from one source package of PyPI and from
datasets/email_triage/models; no model is downloaded. Needs a C++ compiler. What is built lies in
$XDG_CACHE_HOME/cascade-threshold (~/.cache by default); remove that folder to build anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "datasets" / "email_triage" / "models"
VERSION = "0.3.36"
"""Of llama-cpp-python, whose source package holds all of llama.cpp."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cascade-threshold" / f"llama-{VERSION}"
PYTHON = CACHE / "venv" / "bin" / "python"
SERVER = CACHE / "build" / "bin" / "llama-server"
MODELS = {"cheap": "tiny-cheap", "strong": "tiny-strong"}
START_S = 60.0
OFF = (
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_APP",
    "LLAMA_BUILD_UI",
    "LLAMA_USE_PREBUILT_UI",
    "LLAMA_OPENSSL",
    "GGML_CCACHE",
    "GGML_NATIVE",
)
"""What would be fetched from elsewhere, is not needed, or would tie the result to this very processor."""


def build() -> None:
    """Make what is not made yet: an environment, the native server, the Python server on its libraries, the models."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        step(sys.executable, "-m", "venv", CACHE / "venv")
        step(PYTHON, "-m", "pip", "install", "-q", "cmake==3.31.6", "ninja==1.11.1.4", "gguf==0.19.0", "numpy==2.4.6")
    bin_of = PYTHON.parent
    if not SERVER.exists():
        step(
            PYTHON,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            "llama-cpp-python",
            "-d",
            CACHE,
            f"llama-cpp-python=={VERSION}",
        )
        with tarfile.open(CACHE / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
        source = CACHE / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
            "-DBUILD_SHARED_LIBS=ON",
            "-DLLAMA_BUILD_SERVER=ON",
        ]
        step(
            bin_of / "cmake",
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={bin_of / 'ninja'}",
            "-S",
            source,
            "-B",
            CACHE / "build",
            *options,
            *(f"-D{name}=OFF" for name in OFF),
        )
        step(bin_of / "cmake", "--build", CACHE / "build", "--target", "llama-server", "-j", str(os.cpu_count() or 1))
    if not (CACHE / "python-server").exists():
        step(
            PYTHON,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-binary",
            "llama-cpp-python",
            f"llama-cpp-python[server]=={VERSION}",
            CMAKE_ARGS="-DLLAMA_BUILD=OFF",
        )
        (CACHE / "python-server").touch()
    for role in MODELS:
        step(PYTHON, ROOT / "scripts" / "tiny_gguf.py", WEIGHTS / f"{role}.npz", CACHE / f"{role}.gguf")


def step(*words: object, **environment: str) -> None:
    """Run a command, its output in a log; on failure show the log's end and leave."""
    log = CACHE / "build.log"
    with log.open("a") as out:
        done = subprocess.run([str(word) for word in words], stdout=out, stderr=out, env=os.environ | environment)
    if done.returncode:
        sys.exit(
            "\n".join([*log.read_text(errors="replace").splitlines()[-20:], f"failed: {words}; all of it is in {log}"])
        )


@contextlib.contextmanager
def started() -> Iterator[list[str]]:
    """Both servers, on free ports of this machine alone; their addresses."""
    native, python = free_port(), free_port()
    presets = "version = 1\n" + "".join(
        f"[{name}]\nmodel = {CACHE / role}.gguf\nctx-size = 4096\nparallel = 2\nthreads = 1\nload-on-startup = true\n"
        for role, name in MODELS.items()
    )
    (CACHE / "native.ini").write_text(presets)
    (CACHE / "python.json").write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "port": python,
                "models": [
                    {
                        "model": f"{CACHE / role}.gguf",
                        "model_alias": name,
                        "n_ctx": 2048,
                        "logits_all": True,
                        "n_threads": 1,
                        "verbose": False,
                    }
                    for role, name in MODELS.items()
                ],
            }
        )
    )
    commands = {
        native: [
            SERVER,
            "--offline",
            "--no-ui",
            "--host",
            "127.0.0.1",
            "--port",
            native,
            "--models-preset",
            CACHE / "native.ini",
            "--models-max",
            2,
        ],
        python: [PYTHON, "-m", "llama_cpp.server", "--config_file", CACHE / "python.json"],
    }
    with contextlib.ExitStack() as stack:
        for port, words in commands.items():
            log = stack.enter_context((CACHE / f"server-{port}.log").open("w"))
            process = subprocess.Popen(
                [str(word) for word in words],
                stdout=log,
                stderr=log,
                env=os.environ | {"LLAMA_CPP_LIB_PATH": str(SERVER.parent)},
            )
            stack.callback(stop, process, Path(log.name))
            wait_for(f"http://127.0.0.1:{port}/v1/models", process, Path(log.name))
        yield [f"http://127.0.0.1:{port}" for port in commands]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server lists its models, loaded; leave with its log when it does not."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            listed = urllib.request.urlopen(url, timeout=5).read().decode()
            if (
                all(name in listed for name in MODELS.values())
                and '"unloaded"' not in listed
                and '"loading"' not in listed
            ):
                return
        time.sleep(0.1)
    sys.exit(log.read_text(errors="replace")[-3000:] + f"\n{url} does not answer")


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """End a server and whatever it started."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log.unlink()


def main() -> int:
    """Build, or run a command beside the servers and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "run"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if shutil.which("c++") is None and not SERVER.exists():
        sys.exit("a C++ compiler is needed and there is none: apt-get install g++")
    build()
    if arguments.what == "build":
        return 0
    with started() as urls:
        environment = {
            "LOCAL_LLM_URLS": ",".join(urls),
            "LOCAL_LLM_MODELS": ",".join(MODELS.values()),
            "LOCAL_LLM_WEIGHTS": str(WEIGHTS),
        }
        return subprocess.run(arguments.command, env=os.environ | environment).returncode


if __name__ == "__main__":
    sys.exit(main())

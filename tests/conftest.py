"""What every test shares: a home of its own for the run, Django set up, the real engine's folder.

No test touches the user's home, and none is skipped for want of a part: it fails and names the
command that brings it.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
_USER_HOME = Path(os.environ.get("MESH_LLM_HOME") or "~/.mesh-llm").expanduser()
_RUN_HOME = Path(tempfile.mkdtemp(prefix="mesh-llm-tests-"))
atexit.register(shutil.rmtree, _RUN_HOME, ignore_errors=True)


def _engine_folder() -> Path | None:
    on_path = shutil.which("llama-server")
    told = os.environ.get("MESH_LLM_TEST_ENGINE")
    if told:
        return Path(told)
    if (_USER_HOME / "engine" / "llama-server").exists():
        return _USER_HOME / "engine"
    return Path(on_path).resolve().parent if on_path else None


_ENGINE = _engine_folder()
for _name in [name for name in os.environ if name.startswith("MESH_LLM_")]:
    del os.environ[_name]
if _ENGINE is not None:
    os.environ["MESH_LLM_TEST_ENGINE"] = str(_ENGINE)
os.environ["MESH_LLM_HOME"] = str(_RUN_HOME)
os.environ["DJANGO_SETTINGS_MODULE"] = "meshsite.settings"

import django  # noqa: E402  (settings read the environment made above)

django.setup()

from django.conf import settings  # noqa: E402

# A password's hash is slow on purpose, and no test of this process is about how slow.
settings.PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    *settings.PASSWORD_HASHERS,
]


@pytest.fixture(scope="session")
def engine_dir() -> Path:
    """Return the folder of a real llama.cpp."""
    if _ENGINE is None or not (_ENGINE / "llama-server").exists():
        pytest.fail("No engine: run `make setup`, or set MESH_LLM_TEST_ENGINE to a folder of one.")
    return _ENGINE

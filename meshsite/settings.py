"""Django's settings, and the only place that reads the environment (through django-environ).

What a running node may be told by flags has its default here too: each flag of `runnode` is
`MESH_LLM_<FLAG>` in the environment, read by `flag_default`.
"""

import secrets
import sys
from pathlib import Path
from typing import Any

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

MESH_LLM_HOME = Path(env.str("MESH_LLM_HOME", default="~/.mesh-llm")).expanduser()
"""The node's folder: key, database, logs, run, engine. Owner-only."""

MESH_LLM_EPHEMERAL_KEY = bool(env.str("MESH_LLM_EPHEMERAL_KEY", default=""))
"""Any value: an identity in memory and a private folder that goes with the process."""


SEARCH_PATH = env.str("PATH", default="")
"""Where programs are looked for, the engine among them."""


def flag_default(flag: str) -> str | None:
    """Return the environment's value for a `runnode` flag such as ``--max-vram``, or None."""
    name = "MESH_LLM_" + flag.lstrip("-").replace("-", "_").upper()
    value: str | None = env.str(name, default=None)
    return value


MESH_LLM_MODELS_DIR = Path(flag_default("--models-dir") or "~/.models").expanduser()
"""Where GGUF files are looked for, unless `--models-dir` says otherwise."""

MESH_LLM_MAX_VRAM_GB = flag_default("--max-vram")
"""Decimal GB as given, or None: what `mesh-llm models` takes for the memory offered at most."""


def _home_secret() -> str:
    """Return the home's secret, or one for this process alone while there is no home yet."""
    path = MESH_LLM_HOME / "run" / "secret"
    try:
        return path.read_text("ascii").strip() or secrets.token_urlsafe(32)
    except (OSError, UnicodeDecodeError):
        return secrets.token_urlsafe(32)


SECRET_KEY = _home_secret()
DEBUG = False
ALLOWED_HOSTS = ["*"]
"""Hosts are checked by our own middleware on both ports (`nodes.runtime.web_guard`)."""

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "nodes",
    "models_registry",
    "proxy",
]

MIDDLEWARE = [
    "nodes.middleware.SecurityHeaders",
    "nodes.middleware.AsyncWhiteNoise",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "nodes.middleware.ConsoleGuard",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
CSRF_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SAMESITE = "Strict"
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20
"""Bodies on the console's port; the API has its own bound."""

ROOT_URLCONF = "meshsite.urls"
ASGI_APPLICATION = "meshsite.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{MESH_LLM_HOME / 'db.sqlite3'}"),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 5,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

_layer_url = env.str("CHANNEL_LAYER_URL", default="")
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [_layer_url]},
    }
    if _layer_url
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
_collected = (STATIC_ROOT / "staticfiles.json").exists()
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        # Hashed names once `collectstatic` has run (`make setup`); straight from the folders before.
        "BACKEND": "nodes.static_files.HashedStaticFiles"
        if _collected or "collectstatic" in sys.argv
        else "django.contrib.staticfiles.storage.StaticFilesStorage",
    },
}
WHITENOISE_USE_FINDERS = not _collected
WHITENOISE_MANIFEST_STRICT = False
WHITENOISE_ALLOW_ALL_ORIGINS = False
SILENCED_SYSTEM_CHECKS: list[str] = []
LOGGING_CONFIG = None

#!/bin/sh
# Prints the path of a Chromium for the console's tests; brings one if there is none.
set -eu
find_one() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" 2>/dev/null && return
    done
    .venv/bin/python - <<'PY' 2>/dev/null
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    path = p.chromium.executable_path
if not os.path.exists(path):
    raise SystemExit(1)
print(path)
PY
}
if found=$(find_one); then echo "$found"; exit 0; fi
echo "bringing Chromium for the console's tests" >&2
if command -v apt-get >/dev/null 2>&1; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    { $sudo apt-get -qq update && $sudo apt-get -qq install -y chromium; } >/dev/null 2>&1 || true
fi
if found=$(find_one); then echo "$found"; exit 0; fi
.venv/bin/python -m playwright install chromium >&2 || true
if found=$(find_one); then echo "$found"; exit 0; fi
echo "The console's tests need Chromium. Install it with: sudo apt-get install chromium" >&2
exit 1

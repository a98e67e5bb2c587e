#!/usr/bin/env bash
# Makes .venv hold what requirements/cpu.lock names and this project, editable.
# Does nothing when .venv is up to date. PYTHON names the interpreter to build it from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
TORCH=2.13.0
TORCH_INDEX=https://download.pytorch.org/whl/cpu
VENV=.venv
STAMP=$VENV/.bootstrap-stamp
# Present while packages are being written: a run that was killed leaves it behind.
UNFINISHED=$VENV/.bootstrap-unfinished
INPUTS=(requirements/cpu.lock setup.py scripts/bootstrap.sh vllm_edit/__init__.py)

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$@" >&2
    exit 1
}

check_machine() {
    command -v "$PYTHON" >/dev/null ||
        die "'$PYTHON' was not found. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3.11"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$PYTHON" --version) is too old. Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"
}

check_can_build() {
    [[ $(uname -s) == Linux ]] ||
        die "vLLM's CPU build exists for Linux only. Use Linux, or a Linux container or virtual machine."
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        die "this Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"
}

fingerprint() {
    "$PYTHON" - "${INPUTS[@]}" <<'PY'
import hashlib
import platform
import sys
from pathlib import Path

digest = hashlib.sha256(f"{sys.version} {platform.machine()} {Path.cwd()}".encode())
for name in sys.argv[1:]:
    digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
print(digest.hexdigest())
PY
}

same_python() {
    local show='import sys; print(sys.version)'
    [[ "$("$VENV/bin/python" -c "$show" 2>/dev/null)" == "$("$PYTHON" -c "$show")" ]]
}

make_venv() {
    if [[ -e $UNFINISHED ]]; then
        say "The last set-up was cut off: starting over"
    elif same_python && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    say "Making $VENV with $("$PYTHON" --version)"
    "$PYTHON" -m venv --clear "$VENV"
}

pip_install() {
    "$VENV/bin/python" -m pip install --no-input --disable-pip-version-check -qq "$@"
}

# The wheel on the package registry is the CUDA build, gigabytes larger. The CPU build comes from
# wherever pip is set up to look, else from PyTorch's own index.
install_torch() {
    local cpu="torch==$TORCH+cpu"
    say "Installing $cpu"
    pip_install --no-deps "$cpu" 2>/dev/null && return
    say "pip alone did not find it: trying $TORCH_INDEX"
    pip_install --no-deps --index-url "$TORCH_INDEX" "$cpu" && return
    die "$cpu could not be installed: neither pip as set up here nor $TORCH_INDEX has it." \
        "Let this machine reach that index, or put the wheel in a folder and run:" \
        "    PIP_FIND_LINKS=/path/to/folder make demo"
}

install_lock() {
    say "Installing requirements/cpu.lock ($(grep -c '==' requirements/cpu.lock) packages, a few minutes)"
    pip_install --no-deps -r requirements/cpu.lock ||
        die "the locked packages could not be installed; pip's message is above." \
            "Check the network and the free space (about 4 GB), then run the same command again."
}

install_project() {
    say "Installing vllm-edit, editable"
    pip_install --no-deps --no-build-isolation -e . ||
        die "vllm-edit itself could not be installed; pip's message is above."
}

check_machine
wanted=$(fingerprint)
[[ -f $STAMP && $(<"$STAMP") == "$wanted" ]] && exit 0

check_can_build
rm -f "$STAMP"
make_venv
touch "$UNFINISHED"
# pip leaves whole packages behind when it fails by itself; only a kill can cut one in half.
trap 'rm -f "$UNFINISHED"' EXIT
trap 'trap - EXIT; exit 130' INT TERM HUP
install_torch
install_lock
install_project
printf '%s\n' "$wanted" >"$STAMP.new"
mv "$STAMP.new" "$STAMP"
say "Ready: $VENV"

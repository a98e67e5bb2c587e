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
    # The interpreter behind it, should it be that of an activated environment.
    local base='import sys; print(sys._base_executable) if sys.version_info >= (3, 11) else sys.exit(1)'
    local asked=$PYTHON
    PYTHON=$("$asked" -c "$base") ||
        die "'$asked' is too old. Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"
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

# Whether .venv can be added to: built here, by this Python, and whole.
reusable() {
    local show='import sys; print(sys.version, sys.prefix != sys.base_prefix)'
    local ours
    ours=$("$PYTHON" -c 'import sys; print(sys.version, True)')
    [[ ! -e $UNFINISHED ]] &&
        [[ $("$VENV/bin/python" -c "$show" 2>/dev/null) == "$ours" ]] &&
        grep -qsF "$(pwd -P)/$VENV/bin/python" "$VENV/bin/pip" &&
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1
}

make_venv() {
    [[ ! -e $UNFINISHED ]] || say "The last set-up was cut off: starting over"
    say "Making $VENV with $("$PYTHON" --version)"
    mkdir -p "$VENV"
    touch "$UNFINISHED"
    find "$VENV" -mindepth 1 -maxdepth 1 ! -path "$UNFINISHED" -exec rm -rf {} +
    "$PYTHON" -m venv "$VENV"
}

pip_install() {
    PIP_REQUIRE_VIRTUALENV=1 "$VENV/bin/python" -m pip install --no-input --disable-pip-version-check -qq "$@"
}

# The CPU build comes from wherever pip is set up to look, else from PyTorch's own index. The
# registry has the CUDA build only: it runs on the CPU too, but needs gigabytes of CUDA libraries.
install_torch() {
    local cpu="torch==$TORCH+cpu"
    say "Installing $cpu"
    pip_install --no-deps "$cpu" 2>/dev/null && return
    say "pip as set up here does not find it: trying $TORCH_INDEX"
    pip_install --no-deps --timeout 20 --retries 2 --index-url "$TORCH_INDEX" "$cpu" 2>/dev/null && return
    say "No CPU build within reach: installing the CUDA build instead (5 GB, runs on the CPU)"
    pip_install "torch==$TORCH" ||
        die "torch $TORCH could not be installed; pip's message is above." \
            "Let this machine reach $TORCH_INDEX, or put a wheel of $cpu in a folder and run:" \
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
reusable || make_venv
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

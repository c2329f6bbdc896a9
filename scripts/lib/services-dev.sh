# shellcheck shell=bash
# Starts, stops and reports the development set. Sourced by scripts/services, which sets the variables.
#
# Each server <name> has these files in target/services/dev/: <name>.port (chosen once), <name>.pid (process id and
# start time, because process ids are reused), <name>.log, and its data folder <name>/.

SERVERS=(mariadb postgres redis nats)
declare -A TITLE=([mariadb]=MariaDB [postgres]=PostgreSQL [redis]=Redis [nats]=NATS)

url() {
  case $1 in
    mariadb) echo "mysql://likewise@127.0.0.1:$(port mariadb)/likewise" ;;
    postgres) echo "postgres://likewise@127.0.0.1:$(port postgres)/likewise" ;;
    redis) echo "redis://127.0.0.1:$(port redis)" ;;
    nats) echo "nats://127.0.0.1:$(port nats)" ;;
  esac
}

port() { cat "$DEV/$1.port"; }
pid() { cut -d ' ' -f 1 "$DEV/$1.pid"; }

# Prints the start time of a process; fails if it does not exist or is a zombie.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The program's name may contain spaces and brackets: count the fields after it.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

is_running() {
  local id started
  [[ -e $DEV/$1.pid ]] && read -r id started <"$DEV/$1.pid" &&
    [[ $started && $(start_time "$id") == "$started" ]]
}

# Chooses a port below the ephemeral range. Within that range, a client that retries while its server is down may get
# the server's port as its own, connect to itself and block the port.
choose_port() {
  local low candidate
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  ((low > 21000)) || low=32768
  while true; do
    candidate=$((20000 + (RANDOM * 32768 + RANDOM) % (low - 20000)))
    if port_is_free "$candidate" && ! grep -qsx "$candidate" "$DEV"/*.port; then
      echo "$candidate"
      return
    fi
  done
}

# Reads the kernel's list, because the tools that print it are not always installed (0A: listening).
port_is_free() {
  local hex
  hex=$(printf '%04X' "$1")
  ! grep -qsE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6
}

# Probes each server in its own protocol, without client programs. An open port is not enough: PostgreSQL and Redis
# accept connections while they recover.
answers() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$2" && case $1 in
    mariadb) [[ $(head -c 5 <&3 | od -An -tu1) == *" 10" ]] ;; # the greeting of protocol 10
    postgres) # start-up message, protocol 3.0: R means ready, E an error such as "starting up"
      printf "\0\0\0\x29\0\3\0\0user\0likewise\0database\0likewise\0\0" >&3 && [[ $(head -c 1 <&3) == R ]] ;;
    redis) printf "PING\r\n" >&3 && read -r line <&3 && [[ $line == +PONG* ]] ;;
    nats) read -r line <&3 && [[ $line == INFO*"\"jetstream\":true"* ]] ;;
  esac' answers "$1" "$(port "$1")" 2>/dev/null
}

dev_up() {
  local name started=()
  { find_program mariadbd && find_program redis-server && find_postgres_bin && find_nats_server; } \
    >/dev/null || fail "not all four servers are installed" "run: scripts/services install"
  templates_are_current || build_templates
  mkdir -p "$DEV"

  for name in "${SERVERS[@]}"; do
    is_running "$name" || started+=("$name")
  done
  # Start all before waiting for any.
  for name in "${started[@]}"; do
    settle_port "$name"
    "start_$name"
  done
  for name in "${SERVERS[@]}"; do
    wait_until_ready "$name"
  done
  dev_status
  # shellcheck disable=SC2016 # for the reader's shell to expand
  printf '\neval "$(scripts/services env)"\n'
}

settle_port() {
  local file=$DEV/$1.port
  if [[ -s $file ]]; then
    port_is_free "$(<"$file")" && return
    echo "${TITLE[$1]}: another process uses port $(<"$file"); choosing a new one" >&2
  fi
  choose_port >"$file.new"
  mv "$file.new" "$file"
}

wait_until_ready() {
  local deadline=$((SECONDS + 60)) log=$DEV/$1.log
  until answers "$1"; do
    is_running "$1" || fail_with_log "${TITLE[$1]} did not start" "$log" \
      "fix that, or start over without its data: scripts/services down --wipe"
    ((SECONDS < deadline)) || fail_with_log \
      "${TITLE[$1]} (process $(pid "$1")) does not answer on port $(port "$1") after 60 seconds" "$log" \
      "wait for it, or stop the set: scripts/services down"
    sleep 0.02
  done
}

# launch <name> <its folder> <command>...
launch() {
  local name=$1 folder=$2 log=$DEV/$1.log
  shift 2
  [[ ! -e $log ]] || mv "$log" "$log.1"
  (
    cd "$folder" || exit
    # Some servers fail if the locale is set but not installed. A new session keeps the terminal's Ctrl-C
    # from them.
    LC_ALL=C exec setsid "$@" </dev/null >"$log" 2>&1 9>&-
  ) &
  echo "$! $(start_time $! || true)" >"$DEV/$name.pid"
}

# copy_template <name> <folder>: copies and renames, so an interrupted copy is never used.
copy_template() {
  [[ ! -d $2 ]] || return 0
  rm -rf "$2.new"
  cp -a --reflink=auto --sparse=always "$TEMPLATES/$1" "$2.new"
  mv "$2.new" "$2"
}

start_mariadb() {
  copy_template mariadb "$DEV/mariadb"
  # No Unix socket: its path is limited to 107 characters.
  launch mariadb "$DEV/mariadb" "$(find_program mariadbd)" --no-defaults "${RUN_MARIADBD[@]}" \
    --datadir="$DEV/mariadb" --tmpdir="$DEV/mariadb" --bind-address=127.0.0.1 --port="$(port mariadb)" --socket= \
    --pid-file=server.pid --skip-name-resolve --character-set-server=utf8mb4 --max-connections=200 \
    --innodb-buffer-pool-size=256M
}

start_postgres() {
  local data old
  data=$(postgres_data)
  copy_template postgres "$data"
  # PostgreSQL mistakes the zombie of a killed server for a live one, and containers may never reap zombies.
  if old=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && ! start_time "$old" >/dev/null; then
    rm "$data/postmaster.pid"
  fi
  launch postgres "$data" "${UNPRIVILEGED[@]}" "$(find_postgres_bin)/postgres" -D "$data" \
    -p "$(port postgres)" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200
}

start_redis() {
  mkdir -p "$DEV/redis"
  launch redis "$DEV/redis" "$(find_program redis-server)" --bind 127.0.0.1 --port "$(port redis)" \
    --dir "$DEV/redis" --save '' --appendonly yes --daemonize no
}

start_nats() {
  mkdir -p "$DEV/nats"
  launch nats "$DEV/nats" "$(find_nats_server)" --addr 127.0.0.1 --port "$(port nats)" \
    --jetstream --store_dir "$DEV/nats"
}

# Prints the folder of PostgreSQL's data: below /tmp if PostgreSQL's user cannot reach this repository, for example
# below /root.
postgres_data() {
  local folder
  if ((EUID != 0)) || "${UNPRIVILEGED[@]}" test -x "$DEV"; then
    echo "$DEV/postgres"
    return
  fi
  folder=$(postgres_fallback)
  mkdir -m 711 "$folder" 2>/dev/null || [[ -d $folder && ! -L $folder && -O $folder ]] ||
    fail "$folder exists and is not a folder of $(id -un)" "remove it"
  echo "$folder/postgres"
}

postgres_fallback() {
  echo "/tmp/likewise-services-$EUID-$(printf '%s' "$DEV" | sha256sum | cut -c 1-12)"
}

dev_down() {
  local name
  for name in nats redis postgres mariadb; do
    ! is_running "$name" || stop "$name"
    rm -f "$DEV/$name.pid"
  done
  echo "the development set is down"
}

stop() {
  local id signal=TERM deadline=$((SECONDS + 30))
  id=$(pid "$1")
  # A suspended process does not handle signals.
  kill -CONT "$id" 2>/dev/null || true
  # On TERM, PostgreSQL waits for the last client to disconnect.
  [[ $1 != postgres ]] || signal=INT
  # A TERM during startup makes MariaDB hang forever.
  if [[ $1 == mariadb ]]; then
    until answers mariadb || ! is_running mariadb || ((SECONDS >= deadline)); do sleep 0.02; done
  fi
  kill "-$signal" "$id" 2>/dev/null || true
  if ! wait_until_gone "$1"; then
    echo "${TITLE[$1]} did not stop within 30 seconds: killing it; it recovers at its next start" >&2
    kill -KILL "$id" 2>/dev/null || true
    wait_until_gone "$1" || fail "${TITLE[$1]} (process $id) cannot be killed" \
      "it hangs in the kernel: check its disk"
  fi
  echo "${TITLE[$1]} stopped"
}

wait_until_gone() {
  local deadline=$((SECONDS + 30))
  while is_running "$1"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.02
  done
}

dev_wipe() {
  local folder
  rm -rf "$DEV"
  folder=$(postgres_fallback)
  [[ ! -O $folder || -L $folder ]] || rm -rf "$folder"
  echo "data wiped"
}

dev_status() {
  local name state all_up=0
  for name in "${SERVERS[@]}"; do
    if ! is_running "$name"; then
      state=down
      all_up=3
    elif answers "$name"; then
      state="up    $(url "$name")  (process $(pid "$name"))"
    else
      state="runs as process $(pid "$name") but does not answer on port $(port "$name"); log: $DEV/$name.log"
      all_up=3
    fi
    printf '%-11s %s\n' "${TITLE[$name]}" "$state"
  done
  return "$all_up"
}

#!/usr/bin/env bash
# up: a Prefect server, a worker, and a demo recipe that is served every quarter of an hour, on this machine alone.
# down: ends all of them. State and logs are in demo/service.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin place=$PWD/demo/service port=${PORT:-4200}
export PREFECT_HOME=$place/prefect PREFECT_API_URL=http://127.0.0.1:$port/api
export PREFECT_UI_API_URL=$PREFECT_API_URL  # else the page asks port 4200, whatever the server's
# Leases of slots on the disk: a killed server forgets those in its memory, and the slots would never be free again.
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem
# Runs of 90 days ago go, with their logs and artifacts; Prefect keeps them for ever by itself.
export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1

# Of a group that `up` has started somebody still runs a program of this folder's: after the machine has started anew, its
# number may be a stranger's.
ours() { pgrep -g "$1" -f "$(sed 's/[][\.*^$+?(){}|]/\\&/g' <<< "$bin/")" > /dev/null; }

running() { [ -e "$place/$1.pid" ] && ours "$(cat "$place/$1.pid")"; }

taken() { (: < "/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

start() { # NAME COMMAND...: in a group of its own, so that all it starts can be ended
  local name=$1; shift
  if running "$name"; then return; fi
  setsid "$@" >>"$place/$name.log" 2>&1 < /dev/null &
  echo $! > "$place/$name.pid"
}

up() {
  mkdir -p "$place"
  running server || ! taken || {
    echo "port $port is in use by something else: PORT=4201 make up takes another" >&2; exit 1; }
  echo "starting a Prefect server; half a minute or so"
  start server "$bin/python" -m prefect server start --host 127.0.0.1 --port "$port"
  for _ in $(seq 120); do
    "$bin/python" -c "from urllib.request import urlopen; urlopen('$PREFECT_API_URL/health')" 2>/dev/null && break
    kill -0 "$(cat "$place/server.pid")" 2>/dev/null || { tail -n 20 "$place/server.log"; exit 1; }
    sleep 1
  done
  "$bin/segflow" prefect setup --pool segflow
  [ -e demo/aerial/aerial.yaml ] || "$bin/segflow" sample aerial demo/aerial
  start worker "$bin/python" -m prefect worker start --pool segflow
  start served "$bin/segflow" serve demo/aerial/aerial.yaml --name demo --cron "*/15 * * * *"
  echo
  echo "http://127.0.0.1:$port/deployments  the demo runs at each quarter of an hour, or by its button Run"
  echo "commands here:  export PREFECT_API_URL=$PREFECT_API_URL"
  echo "logs:           demo/service"
  echo "end of it:      make down"
}

down() {
  for name in served worker server; do
    [ -e "$place/$name.pid" ] || continue
    echo "ending the $name"
    pid=$(cat "$place/$name.pid")
    if ours "$pid"; then
      kill -TERM -- "-$pid" 2>/dev/null || true
      for _ in $(seq 10); do kill -0 -- "-$pid" 2>/dev/null || break; sleep 1; done
      kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    rm "$place/$name.pid"
  done
}

case "${1:-}" in up) up ;; down) down ;; *) echo "usage: $0 up|down" >&2; exit 2 ;; esac

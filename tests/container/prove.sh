#!/usr/bin/env bash
# Proves, without a container engine, as much of the image as can be proved:
#
#     tests/container/prove.sh target/release/syncline
#
# First the rules of the Dockerfile. Then the binary in a root that holds nothing but itself, the
# libraries it names, and an empty /data: read-only but for /data, as uid 65532, as process 1, with the
# environment that the Dockerfile sets. Exits 0 when all holds, or when the second half was SKIPPED.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dockerfile=$here/../../Dockerfile
uid=65532
# Bookworm's, which the Dockerfile builds with.
glibc_max=2.36
ready_s=20
stop_s=20

failures=0
ok() { printf 'ok       %s\n' "$1"; }
fail() { printf 'FAILED   %s\n' "$1"; failures=$((failures + 1)); }
# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@"; then ok "$what"; else fail "$what"; fi
}

# The final stage, continuation lines joined, comments gone.
final_stage() {
  sed -e '/^[[:space:]]*#/d' -e ':a' -e '/\\$/N' -e 's/\\\n/ /' -e 'ta' "$dockerfile" |
    awk '/^FROM /{stage=""} {stage=stage $0 "\n"} END{printf "%s", stage}'
}
has() { grep -Eq -- "$1" <<<"$stage"; }
has_not() { ! has "$1"; }
instruction() { sed -n "s/^$1 //p" <<<"$stage"; }
last_user_is_ours() { [ "$(instruction USER | tail -n 1)" = "$uid:$uid" ]; }

lint() {
  stage=$(final_stage)
  check 'Dockerfile: runs as a numeric user that is not root' last_user_is_ours
  check 'Dockerfile: HEALTHCHECK in exec form' has '^HEALTHCHECK .*CMD \["/syncline", "healthcheck"\]$'
  check 'Dockerfile: ENTRYPOINT in exec form' has '^ENTRYPOINT \["/syncline"\]$'
  check 'Dockerfile: CMD in exec form' has '^CMD \["serve"\]$'
  check 'Dockerfile: VOLUME /data' has '^VOLUME /data$'
  check 'Dockerfile: EXPOSE 4000' has '^EXPOSE 4000$'
  check 'Dockerfile: STOPSIGNAL SIGTERM' has '^STOPSIGNAL SIGTERM$'
  check 'Dockerfile: /data belongs to the user' has "^COPY .*--chown=$uid:$uid .* /data\$"
  check 'Dockerfile: no shell is needed in the last stage' has_not '^(RUN|SHELL) '
  check 'Dockerfile: no secret in ENV or ARG' has_not '^(ENV|ARG) .*(SECRET|TOKEN|PASSWORD)'
  for label in title source licenses version revision created; do
    check "Dockerfile: label $label" has "org.opencontainers.image.$label="
  done
  check 'Dockerfile: no base is taken by :latest or without a tag' no_floating_base
  check '.dockerignore: leaves out .git, target and node_modules' ignores_ballast
}
no_floating_base() { ! grep -E '^FROM ' "$dockerfile" | grep -Eq '^FROM ([^: ]+|[^ ]+:latest)( |$)'; }
ignores_ballast() {
  local pattern
  for pattern in .git '**/target' '**/node_modules'; do
    grep -Fxq -- "$pattern" "$here/../../.dockerignore" || return 1
  done
}

# Prints the libraries of $1, the loader included.
libraries() { ldd "$1" 2>/dev/null | grep -Eo '/[^ ]+' | sort -u || true; }

# Whether the base image (glibc, libgcc, libstdc++) has everything that $1 names.
only_libraries_of_the_base() {
  local library
  for library in $(libraries "$1"); do
    case ${library##*/} in
      ld-linux-*.so.* | libc.so.6 | libm.so.6 | libdl.so.2 | librt.so.1 | libpthread.so.0 | libgcc_s.so.1 | libstdc++.so.6) ;;
      *) echo "         not in the base image: $library"; return 1 ;;
    esac
  done
}

glibc_is_old_enough() {
  local needed
  needed=$(grep -ao 'GLIBC_2\.[0-9]\+' "$1" | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
  [ -z "$needed" ] || [ "$(printf '%s\n' "$needed" "$glibc_max" | sort -V | tail -n 1)" = "$glibc_max" ]
}

# Names, kinds, modes, owners and checksums of everything under the root $1, /data left out.
inventory() {
  (cd "$1" && find . -path ./data -prune -o -printf '%p %y %m %U:%G %s\n' | sort &&
    find . -path ./data -prune -o -type f -exec sha256sum {} + | sort)
}

build_root() {
  local root=$1 binary=$2 library
  mkdir -p "$root"/{data,dev,proc,etc,tmp}
  install -m 755 "$binary" "$root/syncline"
  for library in $(libraries "$binary"); do
    install -D -m 755 "$library" "$root$library"
  done
  touch "$root"/dev/{null,zero,random,urandom}
  chown "$uid:$uid" "$root/data"
  chmod 750 "$root/data"
  chmod 755 "$root"
}

# Runs with its own mounts, network and loopback. $1: the root.
inside() {
  local root=$1 device
  ip link set lo up
  mount --bind "$root" "$root"
  mount --bind "$root/data" "$root/data"
  for device in null zero random urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
  mount --bind /proc "$root/proc"
  mount -o remount,bind,ro "$root"

  # shellcheck disable=SC2046 # one word for each variable
  set -- env -i PATH="$PATH" $(instruction ENV) SYNCLINE_JWT_SECRET='proof: at least 32 bytes, not a secret' \
    setpriv --no-new-privs --inh-caps=-all \
    chroot --userspec="$uid:$uid" --groups= "$root" /syncline
  local run=("$@")

  local code=0
  "${run[@]}" healthcheck >"$work/healthcheck.log" 2>&1 || code=$?
  # 126 and 127: it could not be run at all.
  check "healthcheck fails while nothing runs (got $code)" is_between 1 "$code" 125

  # As process 1, to which signals without a handler do not come.
  unshare --pid --fork --kill-child -- "${run[@]}" serve >"$work/stdout.log" 2>"$work/stderr.log" &
  local parent=$! server=''
  local deadline=$((SECONDS + ready_s)) healthy=no
  while ((SECONDS < deadline)) && kill -0 "$parent" 2>/dev/null; do
    if "${run[@]}" healthcheck >"$work/healthcheck.log" 2>&1; then healthy=yes; break; fi
    sleep 0.1
  done
  check "healthcheck exits 0 within $ready_s s" [ "$healthy" = yes ]
  server=$(pgrep -P "$parent" || true)
  check 'the first line on stdout is the ready line' first_line_is_ready
  if [ -z "$server" ]; then
    fail 'the server runs'
    return
  fi
  check "it runs as $uid, with no capability" runs_without_rights "$server"
  check 'the root is read-only' root_is_read_only "$root"

  kill -TERM "$server"
  deadline=$((SECONDS + stop_s))
  while kill -0 "$parent" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
  if kill -0 "$parent" 2>/dev/null; then
    fail "it exits within $stop_s s of SIGTERM"
    kill -KILL "$server"
  fi
  code=0
  wait "$parent" || code=$?
  check "SIGTERM ends it with 0 (got $code)" [ "$code" = 0 ]
  check 'it kept its data in /data' wrote_something "$root"
}
is_between() { (($1 <= $2 && $2 <= $3)); }
first_line_is_ready() { head -n 1 "$work/stdout.log" | grep -q '"event":"ready"'; }
runs_without_rights() {
  grep -q "^Uid:[[:space:]]$uid[[:space:]]$uid[[:space:]]$uid[[:space:]]$uid\$" "/proc/$1/status" &&
    grep -q '^CapEff:[[:space:]]0*$' "/proc/$1/status" && grep -q '^NoNewPrivs:[[:space:]]1$' "/proc/$1/status"
}
root_is_read_only() { ! touch "$1/tmp/probe" 2>/dev/null; }
wrote_something() { [ -n "$(find "$1/data" -mindepth 1 -print -quit)" ]; }

prove() {
  local binary=$1 tool
  skip() { printf 'SKIPPED  running the binary: %s\n' "$1"; }
  [ "$(id -u)" = 0 ] || { skip 'not root'; return; }
  for tool in unshare setpriv chroot ip pgrep ldd; do
    command -v "$tool" >/dev/null || { skip "$tool is missing"; return; }
  done
  unshare --mount --net --pid --fork true 2>/dev/null || { skip 'the kernel does not let us unshare'; return; }

  check 'the binary needs no library that the base image lacks' only_libraries_of_the_base "$binary"
  check "the binary needs no glibc newer than $glibc_max" glibc_is_old_enough "$binary"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  build_root "$work/root" "$binary"
  inventory "$work/root" >"$work/before"
  # Its mounts end with it.
  if ! work=$work unshare --mount --net --propagation private -- "${BASH_SOURCE[0]}" --inside "$work/root"; then
    failures=$((failures + 1))
    sed 's/^/         stderr: /' "$work/stderr.log" 2>/dev/null | tail -n 20
    sed 's/^/         healthcheck: /' "$work/healthcheck.log" 2>/dev/null | tail -n 5
  fi
  inventory "$work/root" >"$work/after"
  check 'nothing outside /data was written' diff "$work/before" "$work/after"
}

case ${1-} in
  --inside)
    stage=$(final_stage)
    inside "$2"
    exit $((failures > 0))
    ;;
  '' | -*)
    echo "usage: $0 BINARY" >&2
    exit 2
    ;;
esac
[ -x "$1" ] || { echo "$0: $1 is no program" >&2; exit 2; }
lint
prove "$(realpath "$1")"
cat <<'END'
UNPROVEN the build stages themselves, the size of the image, the engine's own HEALTHCHECK and volume
         ownership, its seccomp and AppArmor profiles: they need a container engine
END
((failures == 0)) || { echo "$failures failed"; exit 1; }

#!/bin/sh
# systemd/install.sh install|uninstall: what `make install-systemd` and `make uninstall-systemd` do.
#   ANNUL    the installed command, an absolute path (for install)
#   PREFIX   where units, sysusers.d and tmpfiles.d go; default: /usr/local/lib
#   DESTDIR  put before all paths; then only files are copied, for a package
# Can be repeated. Neither enables, starts nor stops anything; uninstall keeps the user, its state and /etc/annul.
set -eu
here=$(dirname "$(readlink -f "$0")")
prefix=${PREFIX:-/usr/local/lib}
to=${DESTDIR:-}$prefix
unit=$to/systemd/system/annul.service

fail() { echo "systemd/install.sh: $*" >&2; exit 1; }

reload() {
  [ -n "${DESTDIR:-}" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

case ${1:-} in
install)
  case ${ANNUL:-} in /*) ;; *) fail "ANNUL=${ANNUL:-} must be the absolute path of the annul command" ;; esac
  case $ANNUL in *[!A-Za-z0-9_./+-]*) fail "$ANNUL: install it under a path without special characters" ;; esac
  [ -n "${DESTDIR:-}" ] || [ -x "$ANNUL" ] || fail "there is no $ANNUL: install annul, and say where: ANNUL=/path/to/annul"
  mkdir -p "${unit%/*}" "$to/sysusers.d" "$to/tmpfiles.d"
  sed "s|/usr/bin/annul |$ANNUL |" "$here/annul.service" >"$unit.new"
  chmod 0644 "$unit.new"
  mv "$unit.new" "$unit"
  install -m 0644 "$here/annul.sysusers" "$to/sysusers.d/annul.conf"
  install -m 0644 "$here/annul.tmpfiles" "$to/tmpfiles.d/annul.conf"
  [ -z "${DESTDIR:-}" ] || exit 0
  systemd-sysusers "$to/sysusers.d/annul.conf"
  systemd-tmpfiles --create "$to/tmpfiles.d/annul.conf"
  reload
  setpriv --reuid annul --regid annul --init-groups "$ANNUL" --version >/dev/null ||
    fail "installed, but the user annul cannot run $ANNUL: install annul where every user may read, say in /opt/annul"
  for path in "$ANNUL" "$(readlink -f "$(sed -n '1s/^#! *\([^ ]*\).*/\1/p' "$ANNUL")")"; do
    case $path in /home/* | /root/* | /run/user/* | /tmp/* | /var/tmp/*)
      echo "$path is where the service sees nothing (ProtectHome=yes, PrivateTmp=yes): install annul and its Python" \
        "elsewhere, or change that by 'systemctl edit annul'" >&2 ;;
    esac
  done
  echo "Installed. Start it, now and at boot: systemctl enable --now annul"
  ;;
uninstall)
  rm -f "$unit" "$to/sysusers.d/annul.conf" "$to/tmpfiles.d/annul.conf"
  reload
  ;;
*) fail "install or uninstall?" ;;
esac

#!/bin/sh
# Make this machine, where AWS's nucleus lite is installed, the thing that config.yaml beside this script names.
#
#   sudo ./install.sh [--root DIR] [--etc DIR] [--dry-run]
#
# Nucleus lite itself is AWS's and not in this bundle: a package of https://github.com/aws-greengrass/aws-greengrass-lite
# (releases), or built from there. Nothing is downloaded here. Run again after an interruption: what is done is found.
set -eu
umask 022

RELEASES=https://github.com/aws-greengrass/aws-greengrass-lite/releases
here=$(cd "$(dirname "$0")" && pwd)
root=/var/lib/greengrass
etc=/etc/greengrass
dry=''

fail() {
  echo "error: $1" >&2
  [ $# -lt 2 ] || echo "hint: $2" >&2
  exit 1
}

run() {
  if [ -n "$dry" ]; then echo "would run: $*"; else "$@"; fi
}

while [ $# -gt 0 ]; do
  case $1 in
    --root | --etc) [ $# -ge 2 ] || fail "$1 needs a value" ;;
  esac
  case $1 in
    --root) root=$2; shift ;;
    --etc) etc=$2; shift ;;
    --dry-run) dry=yes ;;
    -h | --help) sed -n '2,7p' "$0" | cut -c3-; exit 0 ;;
    *) fail "unknown option $1" "see $0 --help" ;;
  esac
  shift
done

# What must be there before anything is changed.

thing=$(sed -n 's/^  thingName: *//p' "$here/config.yaml" | tr -d "'\"")
[ -n "$thing" ] || fail "$here/config.yaml names no thing"
case $root in
  /*[!A-Za-z0-9._/-]* | [!/]*) fail "--root $root is not an absolute path of letters, digits, '.', '_' and '-'" ;;
esac
[ -n "$dry" ] || [ "$(id -u)" = 0 ] || fail "this must run as root" "sudo $0"
if [ -f "$etc/config.yaml" ] && ! grep -q "^  thingName: ['\"]*$thing['\"]*\$" "$etc/config.yaml"; then
  fail "$etc/config.yaml belongs to another thing" "remove it, and $root, if this machine shall become $thing"
fi
for tool in getent groupadd useradd usermod install chown systemctl; do
  command -v $tool >/dev/null || fail "there is no $tool" "this script needs Linux with systemd and its user tools"
done
systemctl cat greengrass-lite.target >/dev/null 2>&1 ||
  fail "nucleus lite is not installed: there is no greengrass-lite.target" "install a package of $RELEASES first"

# From here on things change. Nucleus lite's own services (ggl.core.…) run as ggcore, components as gg_component.

for user in ggcore gg_component; do
  getent group $user >/dev/null || run groupadd --system $user
  getent passwd $user >/dev/null || run useradd --system --gid $user $user
done
if getent group video >/dev/null; then run usermod --append --groups video gg_component; fi

run install -d -m 755 "$root" "$etc"
run install -d -m 700 "$root/credentials"
for file in device.pem.crt root-ca.pem; do run install -m 644 "$here/certs/$file" "$root/credentials/$file"; done
run install -m 600 "$here/certs/device.key.pem" "$root/credentials/device.key.pem"
run chown -R ggcore:ggcore "$root"
if [ -n "$dry" ]; then
  echo "would write: $etc/config.yaml"
else
  sed "s|/var/lib/greengrass|$root|g" "$here/config.yaml" >"$etc/config.yaml.tmp"
  chmod 644 "$etc/config.yaml.tmp"
  mv "$etc/config.yaml.tmp" "$etc/config.yaml"
fi
run systemctl enable greengrass-lite.target
run systemctl restart greengrass-lite.target
echo "$thing runs nucleus lite in $root; see: systemctl status --with-dependencies greengrass-lite.target"

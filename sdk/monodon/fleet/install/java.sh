#!/bin/sh
# Install AWS's Java nucleus on this machine, as the thing that config.yaml beside this script names.
#
#   sudo ./install.sh [--nucleus ZIP | --download] [--sha256 HEX] [--root DIR] [--units DIR] [--dry-run]
#
# The nucleus is AWS's and not in this bundle. Without --nucleus, greengrass-nucleus-latest.zip is taken from beside
# this script; nothing is downloaded unless --download says so, and then from $URL alone. Before it is unpacked its
# signature is checked with jarsigner (of a JDK), or its digest with --sha256.
# Run again after an interruption: what is done is found.
set -eu
umask 022

URL=https://d2s8p88vqu9w66.cloudfront.net/releases/greengrass-nucleus-latest.zip
here=$(cd "$(dirname "$0")" && pwd)
root=/greengrass/v2
units=/etc/systemd/system
zip=$here/greengrass-nucleus-latest.zip
digest='' download='' dry=''

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
    --nucleus | --sha256 | --root | --units) [ $# -ge 2 ] || fail "$1 needs a value" ;;
  esac
  case $1 in
    --nucleus) zip=$2; shift ;;
    --sha256) digest=$2; shift ;;
    --root) root=$2; shift ;;
    --units) units=$2; shift ;;
    --download) download=yes ;;
    --dry-run) dry=yes ;;
    -h | --help) sed -n '2,9p' "$0" | cut -c3-; exit 0 ;;
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
if [ -f "$root/config/config.yaml" ] && ! grep -q "^  thingName: ['\"]*$thing['\"]*\$" "$root/config/config.yaml"; then
  fail "$root belongs to another thing" "remove it, or name another folder with --root"
fi
command -v java >/dev/null || fail "there is no java" "install a runtime of version 11 or later, such as Amazon Corretto"
version=$(java -version 2>&1 | sed -n 's/.*version "\([^"]*\)".*/\1/p' | head -n 1)
major=${version#1.}
major=${major%%[!0-9]*}
[ "${major:-0}" -ge 11 ] || fail "java is ${version:-of an unknown version}, and the nucleus needs 11 or later"
for tool in getent groupadd useradd usermod install systemctl; do
  command -v $tool >/dev/null || fail "there is no $tool" "this script needs Linux with systemd and its user tools"
done

# The nucleus: named, fetched only if asked, checked.

if [ ! -f "$zip" ]; then
  [ -n "$download" ] || fail "$zip is not there" "download $URL yourself, or say --download"
  command -v curl >/dev/null || fail "there is no curl" "download $URL yourself"
  run curl --fail --location --proto '=https' --output "$zip.part" "$URL"
  run mv "$zip.part" "$zip"
fi
if [ -n "$digest" ]; then
  if [ -z "$dry" ]; then
    found=$(sha256sum "$zip" | cut -d ' ' -f 1)
    [ "$found" = "$digest" ] || fail "$zip has the SHA-256 $found, not $digest"
  fi
elif command -v jarsigner >/dev/null; then
  if [ -z "$dry" ]; then
    signed=$(jarsigner -verify -certs -verbose "$zip") || fail "the signature of $zip is wrong"
    case $signed in *'jar verified.'*) ;; *) fail "$zip is not signed" "AWS signs it since 2.9.5: get it from $URL" ;; esac
    case $signed in *[Aa]mazon*) ;; *) fail "$zip is signed, but not by Amazon" "get it from $URL" ;; esac
  fi
else
  fail "$zip cannot be checked" "install a JDK for jarsigner, or name its digest with --sha256"
fi

# From here on things change.

getent group ggc_group >/dev/null || run groupadd --system ggc_group
getent passwd ggc_user >/dev/null || run useradd --system --create-home --gid ggc_group ggc_user
if getent group video >/dev/null; then run usermod --append --groups video ggc_user; fi

run install -d -m 755 "$root"
run install -d -m 700 "$root/certs"
for file in device.pem.crt root-ca.pem; do run install -m 644 "$here/certs/$file" "$root/certs/$file"; done
run install -m 600 "$here/certs/device.key.pem" "$root/certs/device.key.pem"

if [ -e "$root/alts/current" ]; then
  echo "found a nucleus in $root: it stays as it is"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if command -v unzip >/dev/null; then
    run unzip -q "$zip" -d "$work"
  else
    run python3 -m zipfile -e "$zip" "$work"
  fi
  nucleus=$(sed -n 's/^    version: *//p' "$here/config.yaml")
  if [ -z "$dry" ]; then
    told=$(java -jar "$work/lib/Greengrass.jar" --version | sed -n 's/.*v\([0-9][0-9.]*[0-9]\).*/\1/p' | head -n 1)
    nucleus=${told:-$nucleus}
  fi
  # The configuration holds for this root, and for the version that was found.
  (umask 077 && sed -e "s|/greengrass/v2|$root|g" -e "s|^    version: .*|    version: $nucleus|" "$here/config.yaml" >"$work/config.yaml")
  run java -Droot="$root" -Dlog.store=FILE -jar "$work/lib/Greengrass.jar" --init-config "$work/config.yaml" \
    --component-default-user ggc_user:ggc_group --setup-system-service false --start false
  if [ -z "$dry" ]; then
    [ -e "$root/alts/current" ] || fail "AWS's installer left no nucleus in $root" "see $root/logs"
  fi
fi

if [ -n "$dry" ]; then
  echo "would write: $units/greengrass.service"
else
  sed "s|/greengrass/v2|$root|g" "$here/greengrass.service" >"$units/greengrass.service"
  chmod 644 "$units/greengrass.service"
fi
run systemctl daemon-reload
run systemctl enable --now greengrass.service
echo "$thing runs AWS's nucleus in $root; see: systemctl status greengrass; $root/logs/greengrass.log"

# To be sourced: a fresh Debian 12 in a folder, with debootstrap, as root. For tests/field/run.sh and tests/arm/run.sh.
# In a mount namespace of its own: whatever breaks debootstrap off, nothing stays mounted there.
# ROOT_COPY: files of this machine that the new one needs too, such as those that say where packages come from.

debian_root() { # ROOT PACKAGE,PACKAGE... [ARCHITECTURE]
  rm -rf "$1"
  unshare --mount debootstrap --variant=minbase --include="$2" ${3:+--arch="$3"} bookworm "$1" >"$1.debootstrap" || {
    tail -n 5 "$1.debootstrap" >&2
    return 1
  }
  rm "$1.debootstrap"
  local file
  for file in /etc/resolv.conf ${ROOT_COPY:-}; do install -D "$file" "$1$file"; done
}

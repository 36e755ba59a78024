#!/usr/bin/env bash
# Follows docs/field.md, block by block and word for word, in a fresh Debian with systemd as its init: the road from a blank
# card to events on MQTT, sandbox and all. As root, on a Debian with debootstrap; some ten minutes. Not part of CI, which
# downloads nothing but registry packages.
#
#   bash tests/field/run.sh ROOT      ROOT: folder of the new system; made anew
#
# What hardware would do is done by: a PulseAudio server with a source that plays a recording, for the microphone; clips
# cut from recordings of that source, for those that one would record. Blocks marked "a microphone" are left out.
# ROOT_COPY: see tests/debian_root.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian_root.sh
source=$PWD
root=$(realpath -m "${1:?usage: bash tests/field/run.sh ROOT}")
say() { printf '\n=== %s (%d s)\n' "$1" "$SECONDS"; }

block() { # the code under a marker
  awk -v mark="<!-- $1" 'index($0, mark) == 1 {on = 1; next} on && /^```/ {if (inside) exit; inside = 1; next} on && inside' docs/field.md
}

say "a blank card: Debian 12 in $root"
debian_root "$root" systemd,systemd-sysv,dbus,ca-certificates,pulseaudio,libasound2-plugins,libsndfile1
git clone --quiet --bare "$source" "$root/opt/repository"
printf '[url "file:///opt/repository"]\n\tinsteadOf = https://github.com/l3edge/l3edge\n[safe]\n\tdirectory = *\n' >"$root/etc/gitconfig"

# The microphone: a PulseAudio server that all may use, whose default source is the monitor of a sink that is played to.
# Its own folder is private; the socket is in another one.
cat >"$root/etc/asound.conf" <<'ASOUND'
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.pulse { type pulse }
ASOUND
printf 'default-server = unix:/run/microphone/native\nautospawn = no\n' >"$root/etc/pulse/client.conf"
cat >"$root/etc/systemd/system/microphone.service" <<'UNIT'
[Service]
RuntimeDirectory=pulse-microphone microphone
Environment=HOME=/run/pulse-microphone PULSE_RUNTIME_PATH=/run/pulse-microphone
ExecStart=/usr/bin/pulseaudio -n --daemonize=no --exit-idle-time=-1 --disable-shm=yes \
  --load="module-null-sink sink_name=room rate=48000 channels=1" \
  --load="module-native-protocol-unix socket=/run/microphone/native auth-anonymous=1"
ExecStartPost=/bin/sh -c 'for i in 1 2 3 4 5; do pactl set-default-source room.monitor && exit 0; sleep 1; done; exit 1'
[Install]
WantedBy=multi-user.target
UNIT

say "boot"
cat >"$root/boot.sh" <<BOOT
mount --bind "$root" "$root"
for folder in run tmp; do mount -t tmpfs tmpfs "$root/\$folder"; done
mount --rbind /sys "$root/sys"
mount -t tmpfs cgroup "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/unified"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec env -i container=field PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd
BOOT
unshare --mount --pid --fork --uts --ipc bash "$root/boot.sh" >"$root.log" 2>&1 </dev/null &
outer=$!
init() { pgrep -P "$outer" | head -1; }
trap 'kill -9 $(init) 2>/dev/null || true' EXIT
inside() { nsenter -t "$(init)" -m -p -u -i chroot "$root" env -i HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
for _ in $(seq 60); do
  state=$(inside systemctl is-system-running 2>/dev/null) && break
  [ "${state:-}" = degraded ] && break
  sleep 1
done
inside systemctl is-system-running || inside systemctl --failed --no-pager
inside systemctl enable --now microphone

follow() { # runs a block in the new system, as a person would type it
  say "docs/field.md: $1"
  local code
  code=$(block "$1")
  [ "$code" ] || { echo "no block $1" >&2; exit 1; }
  echo "$code"
  echo "--"
  inside bash -euo pipefail -c "$code"
}

follow install
say "standing in for a person: clips of three sounds"
cp "$source/tests/field/clips.py" "$root/root/clips.py"
inside /opt/l3edge/bin/python /root/clips.py /etc/l3edge/sounds /root/play.wav
follow learn
follow broker
say "docs/field.md: configuration"
block configuration | tee "$root/etc/l3edge/l3edge.toml"
follow check
follow service
say "the room: what was learned is heard again"
inside bash -c 'for i in 1 2 3; do paplay /root/play.wav; done' &
playing=$!
inside timeout 60 mosquitto_sub -t 'home/garage/events' -C 2 -v
inside timeout 60 mosquitto_sub -t 'home/garage/status' -C 1 -v
wait "$playing" || true
inside l3edge service status
follow reload
sleep 5
inside systemctl is-active l3edge
inside journalctl -u l3edge -o cat --no-pager | tail -n 20
follow uninstall
inside ls -l /var/lib/l3edge/ /var/lib/l3edge/heard/
say "done"

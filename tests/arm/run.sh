#!/usr/bin/env bash
# On ARM, without ARM: a Debian 12 for it, run by QEMU's user emulation, in which l3edge is installed as on a Raspberry Pi
# and tested, its bits are compared with those of x86-64, and its instructions are counted.
#
#   bash tests/arm/run.sh [arm64|armhf] [ROOT [COMMAND...]]
#
#   arm64     64-bit Raspberry Pi OS: LiteRT, NumPy and soxr from wheels (the default)
#   armhf     32-bit: tflite-runtime, NumPy from Debian, no soxr
#   ROOT      folder of the new system, kept, and taken as it is where it exists; without it a temporary one
#   COMMAND   to run in ROOT, in the checkout there, instead of all of this
#
# As root on an x86-64 Debian, whose packages it installs where they are missing; half an hour for arm64, most of it the tests.
# Writes benchmarks/results/arm/ARCHITECTURE.json. Not part of CI, which downloads nothing but registry packages.
# ROOT_COPY: see tests/debian_root.sh. PYTHON: Python 3.11 of this machine, to compare with (default: python3).
#
# The kernel runs ARM programs through binfmt_misc, so that a test's own processes are emulated too; where it has none,
# as in most containers, this stops and says so. What an engine asks of the CPU it is told as by a board: QEMU's CPU
# model gives the features, and /proc/cpuinfo is replaced, by which XNNPACK picks its kernels for a kind of core. All
# mounts are made in a namespace of their own and are gone with each command.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit ;; esac
cd "$(dirname "$0")/../.."
. tests/debian_root.sh
source=$PWD
arch=${1:-arm64}
packages=(debootstrap qemu-user-static binfmt-support qemu-user gcc libc6-dev python3-venv git)
inner=ca-certificates,python3,python3-venv,libportaudio2,libsndfile1
wheels=("pytest>=8" "hypothesis>=6.100" "paho-mqtt>=2")
case $arch in
  arm64) machine=aarch64 engine=litert package=ai-edge-litert numpy="numpy>=2" getppid=173 cores=(cortex-a76 cortex-a72 cortex-a53) ;;
  armhf) machine=arm engine=tflite_runtime package=tflite-runtime numpy="numpy<2" getppid=64 cores=(cortex-a72 cortex-a53)
    inner+=,python3-numpy,python3-cffi,python3-ply ;; # which debootstrap does not find by what it provides
  *) echo "the architecture is arm64 or armhf, not $arch: bash tests/arm/run.sh --help" >&2; exit 2 ;;
esac
# What an engine, NumPy, an architecture or a 32-bit process has a part in. Emulated, everything takes ten to thirty times
# as long, and so these are left out: microphones, brokers, services, faults and hours of sound, which start many processes
# and want them to keep up with real sound; mutants by the ten thousand; what needs TensorFlow, a compiler or recordings, which is
# skipped without, as is what resamples where soxr is missing; of the contract a stream pushed sample by sample, and the models
# whose layers another has too.
tests=(tests/test_{api,golden,contract,model_file,openl3,spec,flatbuffer,frontend,heads,tags,events,sinks,settings}.py
  tests/test_{clock,keeping_up,lock,imports,hostile,edgetpu_engine,edgetpu_files}.py)
[ "$arch" = armhf ] || tests+=(tests/test_cli.py) # whose sound is at 44.1 kHz
for model in edge-m-1 avc-s-1 edge-l-2; do tests+=(--deselect "tests/test_contract.py::test_contract[$model"); done
tests+=(--deselect "tests/test_contract.py::test_lengths[1-")
say() { printf '\n=== %s (%d s)\n' "$1" "$SECONDS"; }
[ "$(id -u)" = 0 ] && [ "$(uname -m)" = x86_64 ] || { echo "run this as root on x86-64" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=${2:+$(realpath -m "$2")}
root=${root:-$work/root}

cpuinfo() { # CORE: what the kernel of a board says of its cores
  local part features="fp asimd evtstrm crc32 cpuid" number
  case $1 in
    cortex-a53) part=0xd03 ;;
    cortex-a72) part=0xd08 ;;
    cortex-a76) part=0xd0b features+=" aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp" ;;
  esac
  [ "$arch" = arm64 ] || features="half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"
  for number in $(seq 0 $(($(nproc) - 1))); do
    printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$number" "$features"
    printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
  done
}

inside() { # CORE COMMAND...: in the root's checkout, on such a core; this machine's files are under /host
  cpuinfo "$1" >"$root/cpuinfo"
  local model=$1
  [ "$arch" = arm64 ] || model=max # QEMU has no 32-bit model of these
  unshare --mount bash -euc '
    root=$1 model=$2; shift 2
    mount -t proc proc "$root/proc"
    mount --bind "$root/cpuinfo" "$root/proc/cpuinfo"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mkdir -p "$root/host"
    mount --bind / "$root/host"
    exec chroot "$root" env -i -C /opt/l3edge HOME=/root LANG=C.UTF-8 QEMU_CPU="$model" PYTHONHASHSEED=0 \
      PATH=/opt/env/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' - "$root" "$model" "${@:2}"
}

if [ $# -gt 2 ]; then
  inside "${cores[0]}" "${@:3}"
  exit
fi

say "Debian packages"
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt || true
[ -e $binfmt/qemu-$machine ] || update-binfmts --enable qemu-$machine || true
{ echo 1 >$binfmt/qemu-$machine; } 2>/dev/null || true # where somebody had disabled it
# F: the kernel has opened QEMU beforehand, and so finds it whatever the root.
if ! { grep -q '^enabled' $binfmt/qemu-$machine && grep -q '^flags:.*F' $binfmt/qemu-$machine; } 2>/dev/null; then
  echo "this kernel does not run ARM programs through QEMU: binfmt_misc cannot be mounted or written here, as in most" >&2
  echo "containers. Run this on the machine itself, or in a privileged container (docker run --privileged)." >&2
  exit 1
fi

if [ ! -x "$root/opt/env/bin/python" ]; then
  [ -z "$(ls -A "$root" 2>/dev/null)" ] || { echo "$root is neither empty nor a system that this script made" >&2; exit 2; }
  say "Debian 12 for $arch in $root"
  debian_root "$root" "$inner" "$arch"
  mkdir -p "$root/opt/l3edge"
  inside "${cores[0]}" python3 -m venv $([ "$arch" = arm64 ] || echo --system-site-packages) /opt/env
fi

commit=$(git rev-parse --short HEAD)
say "l3edge, as on a Raspberry Pi: $commit"
rm -rf "$root/opt/l3edge"
git clone --quiet "$source" "$root/opt/l3edge"
inside "${cores[0]}" pip install -q --disable-pip-version-check --root-user-action=ignore . "${wheels[@]}"
inside "${cores[0]}" l3edge stream --input examples/scene.flac --duration 2 | tail -n 1 # the installed one, not the checkout
out=$root/opt/results
rm -rf "$out"
mkdir "$out"

say "the same engine on x86-64"
version=$(inside "${cores[0]}" python -c "from importlib import metadata; print(metadata.version('$package'))")
"${PYTHON:-python3}" -m venv "$work/x86-64"
"$work/x86-64/bin/pip" install -q --disable-pip-version-check "$package==$version" "$numpy" soundfile
"$work/x86-64/bin/python" -m tests.arm.compare --engine "$engine" --write "$out/x86-64.npz"

for core in "${cores[@]}"; do
  say "$core: streamed against the window graph; and against x86-64"
  inside "$core" python -m tests.arm.compare --engine "$engine" --every 5 --write "/opt/results/$core.npz"
  "$work/x86-64/bin/python" -m tests.arm.compare "$out/$core.npz" "$out/x86-64.npz" --json "$out/$core.json"
done

# A plugin needs QEMU with shared libraries, which in the root only this machine's loader finds.
gcc -O2 -Wall -shared -fPIC -o "$out/count.so" tests/arm/count.c
libraries=/host/usr/lib/x86_64-linux-gnu
for core in "${cores[@]}"; do
  say "$core: instructions of a hop"
  inside "$core" $libraries/ld-linux-x86-64.so.2 --library-path $libraries /host/usr/bin/qemu-$machine \
    -plugin "/opt/results/count.so,mark=$getppid" /opt/env/bin/python -m tests.arm.hops --engine "$engine" \
    >"$out/$core.regions" 2>"$out/$core.marks" || { tail "$out/$core.marks" >&2; exit 1; }
done

say "the SDK's tests"
inside "${cores[0]}" python -m pytest -q -p no:cacheprovider -m "not once" "${tests[@]}" | tee "$out/tests.txt"

say "the record"
"$work/x86-64/bin/python" -m tests.arm.record "$arch" "$out" "$commit" "$(qemu-$machine --version | head -n 1)"
say "done"

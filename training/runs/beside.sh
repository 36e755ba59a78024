# Sourced by scripts that train several networks: two runs side by side. Much of a step runs on one core, so that one core
# for each of two runs is faster than two cores for one after the other.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
trap 'jobs -p | xargs -r kill' EXIT
started=()

# beside COMMAND...: starts it in the background, as soon as fewer than two others run; ends the script where one failed
beside() {
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
  "$@" &
  started+=($!)
}

# all: waits for what `beside` has started; ends the script where one failed
all() {
  local each
  for each in "${started[@]}"; do wait "$each"; done
  started=()
}

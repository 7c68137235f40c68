#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A host that lets the monitor have too few threads: KVM's own thread, or one of the vCPUs'. time-limit: 300
#
#     tests/lab/test_limits.sh        both tests, in one lab
#
# The guest is tests/guest/hello, which prints and resets.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${B:-build}
alone='    alone: tests/lab/test_limits.sh'

if [ "${1:-}" != --in-lab ]; then
	make -s "$B/mayfly-vmm" "$B/guest/hello" >&2 || { echo 'not ok limits/setup'; exit 1; }
	exec tests/lab/lab --timeout 240 -- "$PWD/tests/lab/test_limits.sh" --in-lab
fi

group=/sys/fs/cgroup/limits dir=/srv/limits failed=0
mkdir -p $dir
echo +pids > /sys/fs/cgroup/cgroup.subtree_control
mkdir -p $group

verdict() { # NAME EXPECTED GOT: does GOT hold EXPECTED, a regular expression?
	if grep -qE "$2" <<<"$3"; then
		echo "ok limits/$1"
	else
		printf 'not ok limits/%s\n    expected: %s\n    got: %s\n%s\n' "$1" "$2" "$3" "$alone"
		failed=1
	fi
}
limited() { # TASKS COMMAND...
	echo "$1" > $group/pids.max
	shift
	timeout 30 sh -c 'echo $$ > '$group'/cgroup.procs; exec "$@"' sh "$@"
}
put() { curl -s --max-time 10 --unix-socket $dir/s -X PUT "http://localhost$1" -d "$2"; }

# One vCPU and no room for the thread that KVM starts in the first KVM_RUN: an error and an end, no endless loop.
cat > $dir/vm.json <<END
{"boot-source": {"kernel_image_path": "$PWD/$B/guest/hello"}, "drives": []}
END
out=$(limited 2 "$B/mayfly-vmm" --no-api --config-file $dir/vm.json 2>&1; echo "status $?")
verdict no-thread-for-kvm 'KVM_RUN has no resources' "$out"
verdict no-thread-for-kvm-status '^status 1$' "$out"

# Room for some of the vCPUs' threads: the start is refused, nothing ran, and after the correction it works.
truncate -s 1M $dir/disk
limited 3 "$B/mayfly-vmm" --api-sock $dir/s > $dir/log 2>&1 &
for _ in $(seq 100); do [ ! -S $dir/s ] || break; sleep 0.1; done
put /boot-source "{\"kernel_image_path\": \"$PWD/$B/guest/hello\"}"
put /drives/d "{\"drive_id\": \"d\", \"path_on_host\": \"$dir/disk\", \"is_root_device\": false}"
put /machine-config '{"vcpu_count": 4, "mem_size_mib": 128}'
verdict too-few-threads 'start a vCPU thread: Resource temporarily unavailable' "$(put /actions '{"action_type": "InstanceStart"}')"
echo max > $group/pids.max
put /machine-config '{"vcpu_count": 1, "mem_size_mib": 128}'
verdict corrected '^$' "$(put /actions '{"action_type": "InstanceStart"}')"
wait $!
verdict corrected-status '^0$' "$?"
exit $failed

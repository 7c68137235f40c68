/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the doctor's tiny guests, each in a child process and all at once, and judges what came of them. A child that
 * hangs is ended by its own processor-time limit or, when it waits for ever, by the common deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "cli/doctor_guest.h"
#include "vmm/base/fd.h"

#define CPU_LIMIT_MS 700
#define MAX_GUESTS 24
#define SLOW_MIPS 5 /* million instructions a second; hardware does thousands, QEMU's emulator 20 to 200 */
#define SPEED_INSTRUCTIONS 200000

#define REMEDY_UNFAITHFUL                                                                                              \
	"this KVM does not behave like hardware virtualization, and no setting of Mayfly can make up for that: use a " \
	"host "                                                                                                        \
	"with VT-x/AMD-V (bare metal, or an instance with nested virtualization), or tests/lab/lab, which emulates "   \
	"one"
#define REMEDY_SLOW "guest kernels will be slow here: a KVM without hardware virtualization interprets them"
#define REMEDY_KVM_CALL                                                                                                \
	"look for the reason in the kernel's log (dmesg), and for limits on this process (ulimit, cgroup, seccomp)"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Take one exit. True while the guest goes on. */
static bool handle_exit(const struct doctor_vm *vm, struct doctor_outcome *out)
{
	const struct kvm_run *run = vm->run;

	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
		if (run->io.port == DOCTOR_PORT_REPORT && run->io.size == 4 && out->n_reports < DOCTOR_MAX_STEPS) {
			memcpy(&out->report[out->n_reports], (const uint8_t *)run + run->io.data_offset, 4);
			out->n_reports++;
			return true;
		}
		if (run->io.port == DOCTOR_PORT_HOST) {
			uint64_t one = 1;

			return write(vm->event_fd, &one, sizeof(one)) == sizeof(one);
		}
		if (run->io.port == DOCTOR_PORT_DONE) {
			out->end = DOCTOR_END_DONE;
			return false;
		}
	}
	out->exit_reason = run->exit_reason;
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		out->suberror = run->internal.suberror;
		if (run->emulation_failure.ndata >= 3 &&
			run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES &&
			run->emulation_failure.insn_size <= sizeof(out->insn)) {
			out->n_insn = run->emulation_failure.insn_size;
			memcpy(out->insn, run->emulation_failure.insn_bytes, out->n_insn);
		}
	}
	out->end = DOCTOR_END_EXIT;
	return false;
}

/* The child: make the VM, run the guest, leave the outcome in shared memory. */
static void run_guest(const char *path, const struct doctor_guest *guest, struct doctor_outcome *out)
{
	const struct itimerval limit = {.it_value = {.tv_usec = CPU_LIMIT_MS * 1000}};
	struct doctor_vm vm = {.kvm_fd = open(path, O_RDWR | O_CLOEXEC), .vm_fd = -1, .vcpu_fd = -1, .event_fd = -1};
	const char *failed = "open";
	uint64_t start;
	int rc = vm.kvm_fd < 0 ? -errno : 0;

	(void)setitimer(ITIMER_PROF, &limit, NULL);
	if (rc == 0)
		rc = doctor_vm_prepare(&vm, guest, &failed);
	if (rc < 0) {
		out->failed_call = failed;
		out->err = -rc;
		out->end = rc == -ENOTSUP ? DOCTOR_END_NO_CPU : DOCTOR_END_HOST;
		return;
	}
	start = now_ns();
	do {
		rc = ioctl(vm.vcpu_fd, KVM_RUN, 0);
		if (rc < 0 && errno != EINTR) {
			out->failed_call = "KVM_RUN";
			out->err = errno;
			out->end = DOCTOR_END_HOST;
			return;
		}
	} while (rc < 0 || handle_exit(&vm, out));
	out->took_ns = now_ns() - start;
	if (guest->wiring == DOCTOR_IOEVENTFD && read(vm.event_fd, &out->doorbell, sizeof(out->doorbell)) < 0)
		out->doorbell = 0;
}

static void describe_exit(const struct doctor_outcome *out, char *text, size_t len)
{
	size_t used;

	switch (out->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		snprintf(text, len, "the guest ended in a triple fault");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		used = (size_t)snprintf(text, len, "KVM gave up with internal error %u%s", out->suberror,
			out->suberror == KVM_INTERNAL_ERROR_EMULATION ? " (could not emulate an instruction" : "");
		for (size_t i = 0; i < out->n_insn && i < 8 && used < len; i++)
			used += (size_t)snprintf(text + used, len - used, "%s%02x", i ? " " : ": ", out->insn[i]);
		if (out->suberror == KVM_INTERNAL_ERROR_EMULATION && used < len)
			snprintf(text + used, len - used, ")");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, len, "the processor refused to enter the guest");
		break;
	case KVM_EXIT_MMIO:
		snprintf(text, len, "a store came to the monitor that KVM should have taken");
		break;
	default:
		snprintf(text, len, "KVM stopped the guest with exit reason %u", out->exit_reason);
		break;
	}
}

static void judge_speed(
	const struct doctor_guest *guest, const struct doctor_outcome *out, struct doctor_report *report)
{
	uint64_t mips = out->took_ns ? (uint64_t)SPEED_INSTRUCTIONS * 1000 / out->took_ns : 1000000;

	if (out->end != DOCTOR_END_DONE)
		doctor_add(report, guest->id, guest->title, DOCTOR_WARN, REMEDY_SLOW,
			"%u instructions did not end in %u ms", SPEED_INSTRUCTIONS, CPU_LIMIT_MS);
	else if (mips < SLOW_MIPS)
		doctor_add(report, guest->id, guest->title, DOCTOR_WARN, REMEDY_SLOW,
			"%.1f million instructions a second", (double)SPEED_INSTRUCTIONS * 1000 / (double)out->took_ns);
	else
		doctor_add(report, guest->id, guest->title, DOCTOR_OK, NULL, "over %u million instructions a second",
			SLOW_MIPS);
}

static void judge(const struct doctor_guest *guest, const struct doctor_outcome *out, struct doctor_report *report)
{
	char why[150], where[80] = "";
	uint32_t n = out->n_reports;

	if (out->end == DOCTOR_END_NO_CPU) {
		doctor_add(report, guest->id, guest->title, DOCTOR_SKIP, NULL, "not offered by KVM's CPUID");
		return;
	}
	if (out->end == DOCTOR_END_HOST) {
		doctor_add(report, guest->id, guest->title, DOCTOR_FAIL, REMEDY_KVM_CALL, "%s: %s", out->failed_call,
			strerror(out->err));
		return;
	}
	if (guest->is_speed) {
		judge_speed(guest, out, report);
		return;
	}
	for (uint32_t i = 0; i < n && i < guest->n_steps; i++) {
		const char *exception = doctor_exception(out->report[i]);

		if (out->report[i] == guest->step[i].value)
			continue;
		if (exception)
			doctor_add(report, guest->id, guest->title, DOCTOR_FAIL, REMEDY_UNFAITHFUL,
				"%s: exception %u (%s) instead", guest->step[i].what, out->report[i] & 31, exception);
		else
			doctor_add(report, guest->id, guest->title, DOCTOR_FAIL, REMEDY_UNFAITHFUL,
				"%s: 0x%x, must be 0x%x", guest->step[i].what, out->report[i], guest->step[i].value);
		return;
	}
	if (out->end == DOCTOR_END_DONE && n == guest->n_steps &&
		(guest->wiring != DOCTOR_IOEVENTFD || out->doorbell == 1)) {
		doctor_add(report, guest->id, guest->title, DOCTOR_OK, NULL, "as it must be");
		return;
	}
	if (n < guest->n_steps)
		snprintf(where, sizeof(where), "%s: ", guest->step[n].what);
	if (out->end == DOCTOR_END_EXIT)
		describe_exit(out, why, sizeof(why));
	else if (out->end == DOCTOR_END_RUNNING)
		snprintf(why, sizeof(why), "no answer; the guest hangs");
	else if (n == guest->n_steps)
		snprintf(why, sizeof(why), "the eventfd counted %llu, must be 1", (unsigned long long)out->doorbell);
	else
		snprintf(why, sizeof(why), "the guest ended too early");
	doctor_add(report, guest->id, guest->title, DOCTOR_FAIL, REMEDY_UNFAITHFUL, "%s%s", where, why);
}

/* Wait until every child has ended, or kill those that have not at @deadline_ns. */
static void reap(const pid_t *pid, size_t n, uint64_t deadline_ns)
{
	for (size_t i = 0; i < n; i++) {
		AUTO_FD int fd = pid[i] > 0 ? pidfd_open(pid[i], 0) : -1;
		uint64_t now = now_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (pid[i] <= 0)
			continue;
		if (fd < 0 || poll(&p, 1, now < deadline_ns ? (int)((deadline_ns - now) / 1000000) : 0) <= 0)
			(void)kill(pid[i], SIGKILL);
		(void)waitpid(pid[i], NULL, 0);
	}
}

void doctor_check_guests(const char *path, int limit_ms, struct doctor_report *report)
{
	size_t n, size;
	const struct doctor_guest *guests = doctor_guests(&n);
	pid_t pid[MAX_GUESTS] = {0};
	struct doctor_outcome *outcome;
	uint64_t deadline = now_ns() + (uint64_t)limit_ms * 1000000;

	must(n <= MAX_GUESTS);
	size = n * sizeof(*outcome);
	outcome = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (outcome == MAP_FAILED) {
		doctor_add(report, "guests", "tiny guests", DOCTOR_FAIL, NULL, "mmap: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			run_guest(path, &guests[i], &outcome[i]);
			_exit(0);
		}
		if (pid[i] < 0) {
			outcome[i].end = DOCTOR_END_HOST;
			outcome[i].failed_call = "fork";
			outcome[i].err = errno;
		}
	}
	reap(pid, n, deadline);
	for (size_t i = 0; i < n; i++)
		judge(&guests[i], &outcome[i], report);
	(void)munmap(outcome, size);
}
